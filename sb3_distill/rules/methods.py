"""The table of update rules as data: a method is a row (control policy q, loss ℓ, reward r̂).

Every row descends along g(θ) = E_q[ Σ_t −∇ log π_θ(a_t|s_t) R̂_t + ∇ℓ_t ] with R̂_t = Σ_{i≥t} γ^{i−t} r̂_i
(Czarnecki et al. 2019, equation 1 and table 1). Each row comes in two forms:

``form="paper"``
    As printed. Its rewards are costs, so where an agent can end its episode it learns to: a CartPole student falls over.
``form="unbiased"`` (default)
    ℓ and r̂ with the entropies that turn every cross-entropy into a KL divergence, whose least value, 0, is a perfect
    copy of the teacher: nothing is gained by ending an episode or by prolonging it. ∇ℓ of the rows with H×(π‖π_θ) is
    the paper's.
"""

from dataclasses import dataclass
from typing import Literal

import torch as th
from stable_baselines3.common.distributions import Distribution

from sb3_distill.common.nearest import nearest
from sb3_distill.rules import losses, rewards
from sb3_distill.rules.rewards import LossFunction, RewardFunction, Transitions

Control = Literal["student", "teacher", "uniform"]
CONTROLS = ("student", "teacher", "uniform")
FORMS = ("unbiased", "paper")


@dataclass(frozen=True)
class Loss:
    """ℓ: a function of two distributions, and how it is written.

    :param function: ``function(teacher, student)``, shape (n,); see :mod:`sb3_distill.rules.losses`
    :param formula: for tables
    """

    function: LossFunction
    formula: str

    def __call__(self, teacher: Distribution, student: Distribution) -> th.Tensor:
        return self.function(teacher, student)


@dataclass(frozen=True)
class Reward:
    """r̂: a function of transitions, how it is written, and what it must be told.

    :param function: ``function(transitions, loss)``, shape (n,); see :mod:`sb3_distill.rules.rewards`
    :param formula: for tables
    :param uses_student: it depends on π_θ, so no environment can compute it
    :param uses_next_state: it depends on the distributions or values at s_{t+1}
    :param uses_value: it depends on V_π
    :param uses_student_value: it depends on V_πθ, so the student's critic learns the environment's return
    """

    function: RewardFunction
    formula: str
    uses_student: bool = False
    uses_next_state: bool = False
    uses_value: bool = False
    uses_student_value: bool = False

    def __call__(self, step: Transitions, loss: LossFunction | None = None) -> th.Tensor:
        return self.function(step, loss)


CROSS_ENTROPY = Loss(losses.cross_entropy, "H×(π‖π_θ)")
KL = Loss(losses.kl, "KL(π‖π_θ)")
REVERSE_CROSS_ENTROPY = Loss(losses.reverse_cross_entropy, "H×(π_θ‖π)")
REVERSE_KL = Loss(losses.reverse_kl, "KL(π_θ‖π)")

NEXT_LOSS = Reward(rewards.next_loss, "−γ ℓ(s_{i+1})", uses_student=True, uses_next_state=True)
LOG_PROB = Reward(rewards.log_prob, "log π(a_i|s_i)")
LOG_RATIO = Reward(rewards.log_ratio, "log π(a_i|s_i) − log π_θ(a_i|s_i)", uses_student=True)
TEACHER_VALUE = Reward(rewards.teacher_value, "r_i + γ V_π(s_{i+1}) − V_π(s_i)", uses_next_state=True, uses_value=True)
TEACHER_VALUE_STUDENT_BASELINE = Reward(
    rewards.teacher_value_student_baseline,
    "r_i + γ V_π(s_{i+1}) − V_πθ(s_i)",
    uses_student=True,
    uses_next_state=True,
    uses_value=True,
    uses_student_value=True,
)


@dataclass(frozen=True)
class Method:
    """One row of the table.

    :param name: how users call it
    :param control: who picks the actions that the environment executes
    :param loss: ℓ, or None for 0
    :param reward: r̂, or None for 0
    :param is_gradient: whether g is the gradient of some function of θ
    :param descends: that function, for tables
    """

    name: str
    control: Control
    loss: Loss | None = None
    reward: Reward | None = None
    is_gradient: bool = False
    descends: str = "—"


_PAPER = (
    Method("teacher_distill", "teacher", CROSS_ENTROPY, None, True, "E_π Σ H×(π‖π_θ)"),
    Method("on_policy_distill", "student", CROSS_ENTROPY, None, False, "nothing"),
    Method("entropy_regularised", "student", None, LOG_PROB, True, "E_πθ Σ −log π(a_t|s_t)"),
    Method("n_distill", "student", CROSS_ENTROPY, NEXT_LOSS, True, "E_πθ Σ H×(π‖π_θ)"),
    Method("expected_entropy", "student", REVERSE_CROSS_ENTROPY, NEXT_LOSS, True, "E_πθ Σ −log π(a_t|s_t)"),
    Method("teacher_v_reward", "student", None, TEACHER_VALUE, True, "−E_πθ Σ r_t"),
)
_UNBIASED = (
    _PAPER[0],
    _PAPER[1],
    Method("entropy_regularised", "student", None, LOG_RATIO, True, "E_πθ Σ KL(π_θ‖π)"),
    Method("n_distill", "student", KL, NEXT_LOSS, True, "E_πθ Σ KL(π‖π_θ)"),
    Method("expected_entropy", "student", REVERSE_KL, NEXT_LOSS, True, "E_πθ Σ KL(π_θ‖π)"),
    _PAPER[5],
)
METHODS: dict[str, dict[str, Method]] = {
    form: {row.name: row for row in rows} for form, rows in (("unbiased", _UNBIASED), ("paper", _PAPER))
}


def get_method(method: str | Method, form: str = "unbiased", baseline: str = "teacher") -> Method:
    """
    Look a row up.

    :param method: a row's name (hyphens count as underscores), or a row of the user's own, which is returned as it is
    :param form: ``"unbiased"`` or ``"paper"``, see above
    :param baseline: of teacher V reward: ``"teacher"`` subtracts V_π(s_i), ``"student"`` V_πθ(s_i)
    :return: the row
    :raises ValueError: for a name, form or baseline that there is not; the message lists those there are
    """
    if isinstance(method, Method):
        return method
    if form not in FORMS:
        raise ValueError(f"Unknown form {form!r}: choose one of {', '.join(map(repr, FORMS))}.")
    if baseline not in ("teacher", "student"):
        raise ValueError(f"Unknown baseline {baseline!r}: choose 'teacher' or 'student'.")
    rows = METHODS[form]
    name = str(method).replace("-", "_")
    if name not in rows:
        raise ValueError(f"Unknown method {method!r}: {nearest(name, rows)}")
    row = rows[name]
    if baseline == "student":
        if row.reward is not TEACHER_VALUE:
            raise ValueError(f"baseline='student' belongs to teacher_v_reward, not to {row.name}: leave it out.")
        return Method(row.name, row.control, None, TEACHER_VALUE_STUDENT_BASELINE, False, "nothing")
    return row
