"""Which environments there are, by their Gymnasium ids."""

import gymnasium as gym

import sb3_distill.envs  # noqa: F401 - registers environments
from sb3_distill.envs.atari import is_atari, rom_of
from sb3_distill.nearest import nearest

#: before the names of ALE's own environments
ALE = "ALE/"


def check_env_id(env_id: str) -> None:
    """
    :param env_id: a Gymnasium id. What has a module before it, ``MODULE:ID``, is left to ``gymnasium.make``, which imports that
    :raises ValueError: if there is no such environment, with the nearest ids
    :raises ImportError: for an Atari game, if ale-py is missing
    """
    if ":" in env_id:
        return
    if is_atari(env_id):  # whether ALE has registered its games with Gymnasium or not
        rom_of(env_id)
        return
    try:
        gym.spec(env_id)
    except gym.error.Error as error:
        register_ale(env_id)
        if env_id not in gym.registry:
            raise ValueError(
                f"Unknown environment {env_id!r}: {nearest(env_id, gym.registry, limit=8)} If a module of yours registers it, name that, "
                f"too: env='my_module:{env_id}'."
            ) from error


def is_known(env_id: str) -> bool:
    """
    :param env_id: a Gymnasium id, without a module
    :return: whether there is such an environment, or would be if what it needs were installed
    """
    try:
        check_env_id(env_id)
    except ImportError:
        return True
    except ValueError:
        return False
    return True


def register_ale(env_id: str) -> None:
    """
    Register ALE's environments with Gymnasium, if ALE is installed: Gymnasium does not do it by itself.

    :param env_id: that is wanted
    :raises ImportError: if it is ALE's and ale-py is missing
    """
    try:
        import ale_py
    except ImportError as error:
        if env_id.startswith(ALE):
            raise ImportError(f"{env_id} needs ale-py: pip install 'sb3-distill[atari]'.") from error
        return
    gym.register_envs(ale_py)
