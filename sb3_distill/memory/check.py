"""Whether a memory is of the environment, the actions and the teacher that a student is for."""

from gymnasium import spaces

from sb3_distill.memory.batches import About
from sb3_distill.spaces import same_actions, same_kind


def check_memory(
    about: About,
    observation_space: spaces.Space | None = None,
    action_space: spaces.Space | None = None,
    env_id: str | None = None,
    teacher: str | None = None,
    name: str = "The memory",
) -> None:
    """
    :param about: what the memory is of
    :param observation_space: of the student
    :param action_space: of the student
    :param env_id: where the student acts. An id that the memory does not know is not compared
    :param teacher: name of the teacher that it should be of
    :param name: of the memory, for the message
    :raises ValueError: for the first of these that is given and differs; both are shown
    """
    if env_id is not None and about.env_id is not None and env_id != about.env_id:
        raise ValueError(
            f"{name} is of another environment: it was recorded in {about.env_id!r}, and the student is for {env_id!r}."
        )
    for kind, mine, theirs, fits in (
        ("observation", about.observation_space, observation_space, same_kind),
        ("action", about.action_space, action_space, same_actions),
    ):
        if theirs is not None and not fits(mine, theirs):
            raise ValueError(
                f"{name} does not fit the student: its {kind} space is {mine}, the student's is {theirs}. Record one in the "
                "student's environment."
            )
    if teacher is not None and teacher != about.teacher:
        raise ValueError(f"{name} is of another teacher: of {about.teacher!r}, not of {teacher!r}.")
