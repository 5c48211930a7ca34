"""How the DQN teacher of each environment is trained: the table behind ``sb3-distill train-teacher``."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from stable_baselines3.common.utils import LinearSchedule

import sb3_distill.common.env_ids  # noqa: F401 - registers the environments
from sb3_distill.common.frames import FrameReplayBuffer
from sb3_distill.students.features import MinAtarCNN


class TeacherSettings(NamedTuple):
    """
    One line of the table.

    :param hyperparameters: of SB3's DQN by its own names, ``policy`` among them
    :param n_timesteps: environment steps
    :param eval_every: environment steps from one evaluation to the next
    :param n_envs: environments side by side, in training and in evaluation
    :param n_eval_episodes: of each evaluation
    :param averaged_steps: environment steps over which weights are averaged, exponentially, for evaluations and for the agent that is
        filed; None takes the last ones
    :param environment: what environments have beyond plain ones, in the words of the RL Zoo's ``config.yml``:
        ``env_wrapper``, ``frame_stack``
    :param threads: of PyTorch; None leaves that to PyTorch
    :param device: of the network
    :param stop_at: the mean return of an evaluation after which the training stops; None for none
    """

    hyperparameters: Mapping[str, Any]
    n_timesteps: int
    eval_every: int
    n_envs: int = 1
    n_eval_episodes: int = 20
    averaged_steps: int | None = None
    environment: Mapping[str, Any] = MappingProxyType({})
    threads: int | None = 1
    device: str = "cpu"
    stop_at: float | None = None


#: of DQN on CartPole-v1 in the RL Zoo
_CARTPOLE = {
    "policy": "MlpPolicy",
    "learning_rate": 2.3e-3,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1_000,
    "gamma": 0.99,
    "target_update_interval": 10,
    "train_freq": 256,
    "gradient_steps": 128,
    "exploration_fraction": 0.16,
    "exploration_final_eps": 0.04,
    "policy_kwargs": {"net_arch": [256, 256]},
}
#: The paper's network. Its DQN (Young & Tian 2019) takes a gradient step on 32 transitions at every environment step, which takes
#: hours; here there is one on 128 for every 32, by Adam, towards returns of three steps.
_MIN_ATAR = {
    "policy": "CnnPolicy",
    "learning_rate": 5e-4,
    "batch_size": 128,
    "buffer_size": 200_000,
    "learning_starts": 5_000,
    "gamma": 0.99,
    "n_steps": 3,
    "target_update_interval": 8_000,
    "train_freq": 1,
    "gradient_steps": 1,
    "exploration_fraction": 0.1,
    "exploration_final_eps": 0.02,
    "policy_kwargs": {"features_extractor_class": MinAtarCNN, "net_arch": []},
}
_MIN_ATAR_GAME = partial(TeacherSettings, _MIN_ATAR, eval_every=100_000, n_envs=32, n_eval_episodes=32)

#: Of DQN on Atari in the RL Zoo, with half as many gradient steps, on twice as many transitions, towards returns of three steps,
#: at a learning rate that falls to 0, and without its 10 million environment steps. With fewer gradient steps the score stays around
#: 0 for a million of them.
_ATARI = {
    "policy": "CnnPolicy",
    "learning_rate": LinearSchedule(1.5e-4, 0.0, 1.0),
    "batch_size": 64,
    "buffer_size": 250_000,
    "replay_buffer_class": FrameReplayBuffer,
    "replay_buffer_kwargs": {"n_steps": 3, "gamma": 0.99},
    "learning_starts": 20_000,
    "gamma": 0.99,
    "target_update_interval": 4_000,
    "train_freq": 1,
    "gradient_steps": 4,
    "exploration_fraction": 0.04,
    "exploration_final_eps": 0.02,
    "policy_kwargs": {"optimizer_kwargs": {"fused": True}},
}

#: The probability that an Atari game repeats an action in a frame. Without it only the wait at a game's start is random: a teacher
#: then knows few games, and loses where a student's mistakes lead.
STICKY = 0.05

TEACHERS: dict[str, TeacherSettings] = {
    "CartPole-v1": TeacherSettings(_CARTPOLE, n_timesteps=50_000, eval_every=2_560),
    "MinAtar/Asterix-v1": _MIN_ATAR_GAME(n_timesteps=3_000_000),
    "MinAtar/Breakout-v1": _MIN_ATAR_GAME(n_timesteps=3_000_000),
    "MinAtar/Freeway-v1": _MIN_ATAR_GAME(n_timesteps=3_000_000),
    "MinAtar/Seaquest-v1": _MIN_ATAR_GAME(n_timesteps=5_000_000),
    "MinAtar/SpaceInvaders-v1": _MIN_ATAR_GAME(n_timesteps=3_000_000),
    "PongNoFrameskip-v4": TeacherSettings(
        _ATARI,
        n_timesteps=2_000_000,
        eval_every=102_400,
        n_envs=32,
        n_eval_episodes=20,
        averaged_steps=30_000,
        environment={
            "env_wrapper": [
                {"stable_baselines3.common.atari_wrappers.AtariWrapper": {"action_repeat_probability": STICKY}}
            ],
            "frame_stack": 4,
        },
        threads=None,
        device="auto",
    ),
}
