"""Where the play stands between two rollouts: what the teacher sees of the states that SB3 goes on from."""

from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.common.layers import raw_env
from sb3_distill.teachers.view import TeacherView


class Place:
    """The last observation that SB3 has, as the teacher sees it, and whether the environment is still there."""

    def __init__(self) -> None:
        #: the observation that SB3 has, what the teacher sees of it, and by which view
        self._shown: tuple[Any, Any, TeacherView | None] = (None, None, None)
        #: whether others have stepped or reset the environment after that observation
        self.others_played = False

    def keep(self, obs: Any, seen: Any, view: TeacherView | None) -> None:
        """
        :param obs: the very observation that SB3 goes on from
        :param seen: what the teacher sees of it
        :param view: by which it does, if not as the environment made it
        """
        self._shown = (obs, seen, view)

    def seen(self, obs: Any, env: VecEnv | None, view: TeacherView | None) -> Any:
        """
        :param obs: the very observation that SB3 goes on from, in which the environment need not be any more
        :param env: the student's, in all its wrappers
        :param view: what the teacher sees, where that is something else
        :return: what the teacher sees of it
        """
        last_obs, seen, of = self._shown
        return seen if last_obs is obs and of is view else present_obs(obs, env, view)


def present_obs(obs: Any, env: VecEnv | None, view: TeacherView | None) -> Any:
    """
    :param obs: what the student sees of the state that the environment is in
    :param env: the student's, in all its wrappers
    :param view: what the teacher sees, where that is something else
    :return: what the teacher sees of it
    """
    if view is not None:
        return view.obs
    vec_normalize = raw_env(env)[1] if env is not None else None
    return obs if vec_normalize is None else vec_normalize.old_obs
