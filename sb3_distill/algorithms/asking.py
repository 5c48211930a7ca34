"""What the teacher says about the states of a rollout: each is asked about once, and as many at a time as there are by then."""

import torch as th

from sb3_distill.algorithms.rollout import Rollout
from sb3_distill.teachers.binding import Binding
from sb3_distill.teachers.own_predict import compare_in_play
from sb3_distill.teachers.teacher import Answer, Teacher, join_answers, masks_if_any


def answer_now(teacher: Teacher, binding: Binding, heard: Rollout, with_value: bool) -> Answer:
    """
    Ask about the states since the teacher was asked last, the present one among them.

    :param teacher: who is asked
    :param binding: which may know the first state's answer from the rollout before
    :param heard: of the rollout so far; the answer joins it
    :param with_value: whether V_π is asked for, too
    :return: the answer, in which the present states come last
    """
    observations, n_known = heard.tap.observations, _known(teacher, binding, heard)
    if n_known < len(observations):
        since = observations[-1] if n_known == len(observations) - 1 else observations.batch(n_known)
        masks = heard.masks_since(n_known)
        heard.answers.append(teacher.answer_in_chunks(since, with_value, **masks_if_any(masks)))
    return heard.answers[-1]


def answer_in_the_end(
    teacher: Teacher, binding: Binding, heard: Rollout, n: int, with_value: bool, with_truncated: bool
) -> Answer:
    """
    Ask about what is not known yet of a whole rollout, in one batch.

    :param teacher: who is asked
    :param binding: keeps what is said of the last states, in which the next rollout begins
    :param heard: of the rollout
    :param n: of its states but the last ones, s_1 … s_T
    :param with_value: whether V_π is asked for, too
    :param with_truncated: whether the states at which time limits cut episodes are asked about
    :return: for s_1 … s_{T+1}, then for those; on the CPU
    :raises ValueError: if it is not finite
    """
    tap, n_known = heard.tap, _known(teacher, binding, heard)
    truncated = [obs for _, _, obs in tap.truncated] if with_truncated else []
    masks = masks_if_any(heard.masks_since(n_known, with_truncated))
    asked = teacher.answer_in_chunks(tap.observations.batch(n_known, truncated), with_value, **masks)
    answer = join_answers([*heard.answers, asked])
    compare_in_play(teacher, lambda: tap.observations.batch(0))
    if not th.isfinite(answer.parameters).all():
        raise ValueError(f"The teacher {teacher.name} answered with NaN or infinity: are its weights damaged?")
    last = slice(n, n + heard.env.num_envs)
    last_answer = Answer(answer.parameters[last], None if answer.value is None else answer.value[last])
    binding.carry(teacher, tap.observations[-1], last_answer, heard.masks[-1] if heard.masks else None)
    return Answer(answer.parameters.cpu(), None if answer.value is None else answer.value.cpu())


def _known(teacher: Teacher, binding: Binding, heard: Rollout) -> int:
    """For how many steps the teacher's answers are known; for the first one from the rollout before, perhaps."""
    if not heard.answers:
        carried = binding.carried(teacher, heard.tap.observations[0], heard.masks[0] if heard.masks else None)
        heard.answers += [carried] if carried is not None else []
    return heard.n_answered
