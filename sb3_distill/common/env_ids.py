"""Which environments there are, by their Gymnasium ids; importing it registers the package's own."""

import gymnasium as gym
from gymnasium.envs.registration import register

from sb3_distill.common.mujoco import check_made
from sb3_distill.common.nearest import nearest

#: before the names of ALE's own environments
ALE = "ALE/"
#: of the Atari games whose frames nobody has skipped yet
ATARI_SUFFIX = "NoFrameskip-v4"

register("sb3_distill/GridWorld-v0", entry_point="sb3_distill.envs.grid_world:GridWorld")
register("sb3_distill/Corridor-v0", entry_point="sb3_distill.envs.corridor:Corridor", max_episode_steps=200)
register("sb3_distill/ForkedRoad-v0", entry_point="sb3_distill.envs.forked_road:ForkedRoad")
register("sb3_distill/Oscillation-v0", entry_point="sb3_distill.envs.oscillation:Oscillation")
register(
    "sb3_distill/SmallCartPole-v1",
    entry_point="sb3_distill.envs.small_cart_pole:SmallCartPole",
    max_episode_steps=500,
    reward_threshold=475.0,
)

# An episode of Seaquest has no end while the submarine stays at the surface, so all games are cut, long after any that was ever
# played in earnest; the package's own environments are not.
for _game in ("asterix", "breakout", "freeway", "seaquest", "space_invaders"):
    for _version in (0, 1):
        register(
            f"MinAtar/{_game.title().replace('_', '')}-v{_version}",
            entry_point="sb3_distill.envs.min_atar:MinAtarEnv",
            max_episode_steps=10_000,
            kwargs={"game": _game, "use_minimal_action_set": _version == 1},
        )


def check_env_id(env_id: str) -> None:
    """
    :param env_id: a Gymnasium id. What has a module before it, ``MODULE:ID``, is left to ``gymnasium.make``, which imports that
    :raises ValueError: if there is no such environment, with the nearest ids, or it is one of MuJoCo's that cannot be made any more
    :raises ImportError: for an Atari game, if ale-py is missing
    """
    if ":" in env_id:
        return
    if is_atari(env_id):  # whether ALE has registered its games with Gymnasium or not
        rom_of(env_id)
        return
    check_made(env_id)
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


def rom_of(game: str) -> str:
    """
    :param game: as :func:`~sb3_distill.envs.atari.make_atari_vec_env` takes it
    :return: ALE's name of it
    :raises ValueError: for an unknown game: the nearest ones
    :raises ImportError: if ale-py is missing
    """
    try:
        from ale_py import roms
    except ImportError as error:
        raise ImportError(f"{game} needs ale-py: pip install 'sb3-distill[atari]'.") from error
    known = {"".join(part.capitalize() for part in name.split("_")): name for name in roms.get_all_rom_ids()}
    name = game.removesuffix(ATARI_SUFFIX)
    same = [rom for known_name, rom in known.items() if known_name.lower() == name.replace("_", "").lower()]
    if not same:
        raise ValueError(f"Unknown Atari game {game!r}: {nearest(name, known, limit=8)}")
    return same[0]


def is_atari(env_id: str) -> bool:
    """
    :param env_id: of Gymnasium
    :return: whether :func:`~sb3_distill.envs.atari.make_atari_vec_env` makes it
    """
    return env_id.endswith(ATARI_SUFFIX)
