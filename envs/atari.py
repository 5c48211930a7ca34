"""Atari games at the speed of ALE's own threads, preprocessed as the RL Zoo's agents were trained."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from sb3_distill.common.env_ids import ATARI_SUFFIX, rom_of
from sb3_distill.envs.vector_env import GymnasiumVecEnv

_NOOP, _FIRE, _UP_OR_RIGHT = 0, 1, 2
#: of a paddle, which games of buttons do without
_FULL_STRENGTH = [1.0]


class AtariGames(VectorEnv):
    """
    n games of one kind, each in a thread of ALE's, preprocessed as by SB3's ``AtariWrapper`` and ``VecFrameStack``.

    Frames, lives, ends of episodes, rewards and statistics are theirs on the same actions, with these differences: ALE draws 0
    to ``noop_max`` − 1 no-ops at a game's start where SB3 draws 1 to ``noop_max``, and its grey levels differ from OpenCV's
    by rounding (tests/envs/test_atari.py has the figures). Random numbers are ALE's, so sticky actions fall elsewhere.

    Each game is an ``AtariVectorEnv`` of its own: only then can a lost life be followed by the no-op and the FIRE that
    SB3's wrapper hides from the agent, while the other games wait. It is no slower than one environment of n games.

    :param game: ``"Pong"``, ``"PongNoFrameskip-v4"`` or ALE's ``"pong"``
    :param n_envs: games side by side
    :param n_threads: how many games run at the same time; None is all of them, which the system shares out among the cores
    :param frame_stack: frames in an observation
    :param screen_size: their width and height
    :param frame_skip: frames for which an action is repeated; an observation is the maximum of the last two
    :param noop_max: a game starts with fewer no-ops than this
    :param terminal_on_life_loss: whether an episode ends with a life, the game going on in the next one
    :param clip_reward: whether rewards are −1, 0 or 1 by their sign. Episode statistics have the unclipped score
    :param action_repeat_probability: of sticky actions, in each frame
    :param full_action_space: all 18 actions instead of those that the game knows
    :param max_frames: a game is cut after so many
    :raises ValueError: for an unknown game (with the nearest ones), and numbers below 1
    :raises ImportError: if ale-py is missing: which extra to install
    """

    def __init__(
        self,
        game: str,
        n_envs: int,
        n_threads: int | None = None,
        frame_stack: int = 4,
        screen_size: int = 84,
        frame_skip: int = 4,
        noop_max: int = 30,
        terminal_on_life_loss: bool = True,
        clip_reward: bool = True,
        action_repeat_probability: float = 0.0,
        full_action_space: bool = False,
        max_frames: int = 108_000,
    ) -> None:
        numbers = {"n_envs": n_envs, "frame_stack": frame_stack, "screen_size": screen_size, "frame_skip": frame_skip}
        for name, number in (numbers | ({} if n_threads is None else {"n_threads": n_threads})).items():
            if number < 1:
                raise ValueError(f"{name} must be at least 1, not {number}.")
        rom = rom_of(game)
        from ale_py.vector_env import AtariVectorEnv

        def make() -> Any:
            return AtariVectorEnv(
                rom,
                1,
                num_threads=1,
                max_num_frames_per_episode=max_frames,
                repeat_action_probability=action_repeat_probability,
                full_action_space=full_action_space,
                autoreset_mode=AutoresetMode.SAME_STEP,
                img_height=screen_size,
                img_width=screen_size,
                stack_num=1,
                frameskip=frame_skip,
                noop_max=noop_max,
                reward_clipping=False,
                use_fire_reset=False,
            )

        self.games = [make() for _ in range(n_envs)]
        #: ALE itself, without the checks of a call, which take longer than the call
        self._ales = [game.ale for game in self.games]
        self.num_envs = n_envs
        self.n_threads = min(n_threads or n_envs, n_envs)
        self.terminal_on_life_loss = terminal_on_life_loss
        self.clip_reward = clip_reward
        self.frame_stack = frame_stack
        self.action_meanings = [action.name for action in self.games[0].ale.get_action_set()]
        self.single_observation_space = spaces.Box(0, 255, (frame_stack, screen_size, screen_size), np.uint8)
        self.single_action_space = spaces.Discrete(len(self.action_meanings))
        self.observation_space = batch_space(self.single_observation_space, n_envs)
        self.action_space = batch_space(self.single_action_space, n_envs)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": ["rgb_array"], "render_fps": 15}
        self.render_mode = "rgb_array"
        self.spec = EnvSpec("".join(part.capitalize() for part in rom.split("_")) + ATARI_SUFFIX)
        self._restart = [_FIRE, _UP_OR_RIGHT] if "FIRE" in self.action_meanings else []
        #: what was given out last; never written to again
        self._stacks = np.zeros((n_envs, frame_stack, screen_size, screen_size), dtype=np.uint8)
        self.copy = True  # in Gymnasium's sense: each step has an array of its own
        self._lives = np.zeros(n_envs, dtype=np.int64)
        #: of the present games: the unclipped score, and the frame in which they began
        self._scores = np.zeros(n_envs)
        self._began = np.zeros(n_envs, dtype=np.int64)

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Start all games anew.

        :param seed: of the first game, those of the others follow it; or one for each
        :param options: none are known
        :return: stacks of frames, shape (n_envs, frame_stack, height, width), and lives
        """
        if isinstance(seed, (int, np.integer)):
            seed = [int(seed) + i for i in range(self.num_envs)]
        stacks = np.zeros_like(self._stacks)
        for i, game in enumerate(self.games):
            frames, info = game.reset(seed=None if seed is None else int(seed[i]))
            self._new_game(i, info)
            self._scores[i] = 0.0
            stacks[i, -1] = self._continue(i, frames, info, self._restart, [])
        self._stacks = stacks
        return stacks, {"lives": self._lives.copy()}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """:meth:`step_async` and :meth:`step_wait`."""
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: np.ndarray) -> None:
        """
        Set the games going: they run in their own threads from here on.

        :param actions: shape (n_envs,)
        """
        # ALE takes a list in a quarter of the time that it takes an array in.
        self._actions = np.asarray(actions, dtype=np.int64).reshape(self.num_envs, 1).tolist()
        for ale, action in zip(self._ales[: self.n_threads], self._actions, strict=False):
            ale.send(action, _FULL_STRENGTH)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """
        :return: stacks of frames in a new array, rewards, whether episodes ended and whether they were cut, and infos:
            ``lives``; for ended episodes ``final_obs``; for ended games ``episode`` in ``final_info``, with the unclipped
            score ``r`` and the length ``l`` in frames of the whole game
        """
        n = self.num_envs
        stacks = np.empty_like(self._stacks)
        stacks[:, :-1] = self._stacks[:, 1:]
        rewards = np.zeros(n, dtype=np.float32)
        terminated, truncated = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        final_obs = np.full(n, None, dtype=object)
        final_info: dict[str, Any] = {}
        for i, ale in enumerate(self._ales):
            frames, reward, (terminated[i],), (truncated[i],), info = ale.recv()
            if i + self.n_threads < n:
                self._ales[i + self.n_threads].send(self._actions[i + self.n_threads], _FULL_STRENGTH)
            rewards[i] = reward[0]
            self._scores[i] += rewards[i]
            lives, game_over = int(info["lives"][0]), bool(terminated[i] or truncated[i])
            if game_over:
                stacks[i, -1] = info["final_obs"][0, 0]
                finished = [self._new_game(i, info)]
                restart = self._restart
            elif self.terminal_on_life_loss and 0 < lives < self._lives[i]:
                terminated[i] = True
                stacks[i, -1] = frames[0, 0]
                finished = []
                restart = [_NOOP, *self._restart]
            else:
                self._lives[i] = lives
                stacks[i, -1] = frames[0, 0]
                continue
            final_obs[i] = stacks[i].copy()
            stacks[i, :-1] = 0
            stacks[i, -1] = self._continue(i, frames, info, restart, finished)
            for episode in finished:
                final_info = self._add_info(final_info, {"episode": episode}, i)
            final_info = self._add_info(final_info, {"lives": 0 if game_over else lives}, i)
        self._stacks = stacks
        infos: dict[str, Any] = {"lives": self._lives.copy()}
        if final_info:
            infos |= {"final_obs": final_obs, "final_info": final_info}
        return stacks, np.sign(rewards) if self.clip_reward else rewards, terminated, truncated, infos

    def _new_game(self, i: int, info: dict[str, Any]) -> dict[str, Any]:
        """:return: the statistics of the game that ended, as ``Monitor`` has them"""
        now, since_start = int(info["frame_number"][0]), int(info["episode_frame_number"][0])
        episode = {"r": float(self._scores[i]), "l": now - since_start - int(self._began[i])}
        self._scores[i] = 0.0
        self._began[i] = now - since_start
        return episode

    def _continue(
        self, i: int, frames: np.ndarray, info: dict[str, Any], actions: list[int], finished: list[dict[str, Any]]
    ) -> np.ndarray:
        """Play what SB3's wrappers hide from the agent; statistics of games that end in it join ``finished``."""
        for action in actions:
            frames, reward, terminated, truncated, info = self.games[i].step(np.array([action]))
            self._scores[i] += reward[0]
            if terminated[0] or truncated[0]:
                finished.append(self._new_game(i, info))
        self._lives[i] = int(info["lives"][0])
        return frames[0, 0]

    def render(self) -> tuple[np.ndarray, ...]:  # type: ignore[override]
        """:return: of each game, what the agent sees: its newest frame, shape (height, width, 3)"""
        return tuple(np.repeat(stack[-1][..., None], 3, axis=-1) for stack in self._stacks)


class AtariVecEnv(GymnasiumVecEnv):
    """SB3's view of :class:`AtariGames`. Episode statistics are of whole games, as ``Monitor`` beneath ``AtariWrapper`` has them."""

    venv: AtariGames

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return [issubclass(wrapper_class, Monitor) for _ in self._get_indices(indices)]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        if attr_name == "rewards":  # as a Monitor has them: unclipped, of the present game
            return [[float(self.venv._scores[i])] for i in self._get_indices(indices)]
        return super().get_attr(attr_name, indices)


def make_atari_vec_env(game: str, n_envs: int = 1, seed: int | None = None, **kwargs: Any) -> AtariVecEnv:
    """
    What SB3's ``VecFrameStack(make_atari_env(…), 4)`` makes, stepped in ALE's own threads.

    Observations are uint8 of shape (frame_stack, screen_size, screen_size), the newest frame last.

    :param game: ``"Pong"``, ``"PongNoFrameskip-v4"`` or ALE's ``"pong"``
    :param n_envs: games side by side
    :param seed: of the first game; those of the others follow it
    :param kwargs: of :class:`AtariGames`, most of them by the names of SB3's ``AtariWrapper``
    :return: the environment
    :raises ValueError: for an unknown game (with the nearest ones), and numbers below 1
    :raises ImportError: if ale-py is missing: which extra to install
    """
    env = AtariVecEnv(AtariGames(game, n_envs, **kwargs))
    if seed is not None:
        env.seed(seed)
    return env
