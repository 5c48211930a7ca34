"""The settings of an experiment, and which of them the rows of the table have."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sb3_distill.experiment import offline

#: options of the rows, with what they are if they are not given; None is the constructor's own
ROW_OPTIONS = {
    "form": "unbiased",
    "baseline": "teacher",
    "control": None,
    "weight": None,
    "critic": None,
    "beta": None,
    "beta_per": None,
    "teacher_return": None,
    "random_return": None,
    "reward_bound": None,
    "loss_coef": None,
    "reward_coef": None,
    "env_reward_coef": None,
    "gamma": None,
}


@dataclass(frozen=True)
class Settings:
    """
    What a distillation is made from. None is the method's own value.

    :param env: a Gymnasium id
    :param teacher: see :func:`~sb3_distill.load_teacher`
    :param method: a row of :data:`~sb3_distill.METHODS`, ``"kickstarting"``, ``"proximal_distill"``, or ``"policy_distillation"``
    :param engine: ``"ppo"``, ``"a2c"``, ``"trpo"``, ``"maskable_ppo"`` or ``"recurrent_ppo"``, whose students have an LSTM as wide as the
        first layer of ``net_arch``; of policy distillation ``"dqn"`` or ``"ppo"``
    :param env_kwargs: of ``gymnasium.make``
    :param net_arch: hidden layers of the student
    :param size: of a student that sees images, in place of ``net_arch``: ``"25%"``, ``"7%"`` or ``"4%"``
    :param student_obs: what the student sees, if it is not what its teacher reads: ``"pixels"``, which are drawn, ``"pixels:42"`` of
        another size, ``"pixels:inverted"`` where they are bright, ``"pixels:84:rgb:frames=2"``, or a key of the environment's Dict
    :param steps: of all environments together; with a memory, minibatches
    :param n_envs: environments side by side
    :param seed: of everything random
    :param threads: of PyTorch
    :param device: ``"cpu"``, ``"cuda"`` …
    :param learning_rate: a constant one
    :param gamma: the discount of the student's rewards
    :param temperature: of a Q-network's policy; of policy distillation, of its loss
    :param epsilon: of a Q-network's policy; of policy distillation, of the teacher's play
    :param noise: the share of the teacher's actions that is uniform, see :func:`~sb3_distill.load_teacher`; not of policy distillation
    :param form: of the row, as the next ones; see :class:`~sb3_distill.algorithms.distillation.Distillation`
    :param loss: of policy distillation
    :param memory: of policy distillation: a folder
    :param then_rl: steps of reinforcement learning after the distillation, see :func:`~sb3_distill.then_rl`; not of policy distillation
    :param eval_episodes: of the comparison in the end
    :param tensorboard_log: folder for TensorBoard
    """

    env: str
    teacher: str
    method: str = "n_distill"
    engine: str = "ppo"
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    net_arch: tuple[int, ...] = (32, 32)
    size: str | None = None
    student_obs: str | None = None
    steps: int = 16_384
    n_envs: int = 8
    seed: int = 0
    threads: int | None = None
    device: str | None = None
    learning_rate: float | None = None
    gamma: float | None = None
    temperature: float | str = "auto"
    epsilon: float | None = None
    noise: float | None = None
    form: str | None = None
    baseline: str | None = None
    control: str | None = None
    weight: str | None = None
    critic: str | None = None
    beta: float | None = None
    beta_per: str | None = None
    teacher_return: float | None = None
    random_return: float | None = None
    reward_bound: float | None = None
    loss_coef: float | None = None
    reward_coef: float | None = None
    env_reward_coef: float | None = None
    loss: str | None = None
    memory: str | None = None
    then_rl: int | None = None
    eval_episodes: int = 100
    tensorboard_log: str | None = None

    @property
    def env_id(self) -> str:
        """Without the module that registers it."""
        return self.env.rpartition(":")[2]

    @property
    def offline(self) -> bool:
        """Whether it is a policy distillation, and no row."""
        return self.method == offline.NAME

    @property
    def title(self) -> str:
        """Of tables and figures."""
        *kind, base = self.engine.split("_")  # maskable_ppo is MaskablePPO
        engine = "".join(map(str.capitalize, kind)) + base.upper()
        return f"{self.method.replace('_', '-')} with {engine} on {self.env_id}"
