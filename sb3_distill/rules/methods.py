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

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch as th
from stable_baselines3.common.distributions import Distribution

from sb3_distill.common.nearest import nearest
from sb3_distill.rules import losses, rewards, weights
from sb3_distill.rules.bounds import bounded
from sb3_distill.rules.controls import CONTROLS
from sb3_distill.rules.rewards import LossFunction, RewardFunction, Transitions
from sb3_distill.rules.weights import CoefficientFunction, Returns, States, WeightFunction

FORMS = ("unbiased", "paper")
BASELINES = ("teacher", "student")

#: What a part of a row may need besides the two distributions at s_t. It says what the teacher is asked for, what a rollout keeps,
#: and what a teacher or an environment wrapper cannot serve.
TEACHER_VALUE = "teacher_value"  # V_π
STUDENT_VALUE = "student_value"  # V_πθ: the student's critic learns the environment's return
NEXT_STATE = "next_state"  # the teacher at s_{t+1}
STUDENT = "student"  # π_θ, which no environment knows
LOG_RATIO = "log_ratio"  # log π_θ(a_t|s_t) − log π_old(a_t|s_t)
RETURNS = "returns"  # mean returns of the teacher, of random play, and of the student's last episodes
#: of a reward, and of a weight
REWARD_NEEDS = frozenset({TEACHER_VALUE, STUDENT_VALUE, NEXT_STATE, STUDENT})
WEIGHT_NEEDS = frozenset({TEACHER_VALUE, STUDENT_VALUE, STUDENT, LOG_RATIO})


def _names(needs: Iterable[str]) -> frozenset[str]:
    """A name alone is one, not its letters; lists and tuples are sets."""
    return frozenset([needs] if isinstance(needs, str) else needs)


@dataclass(frozen=True)
class Loss:
    """ℓ: a function of two distributions, and how it is written.

    :param function: ``function(teacher, student)``, shape (n,); see :mod:`sb3_distill.rules.losses`
    :param formula: for tables
    """

    function: LossFunction
    formula: str
    needs = frozenset({STUDENT})

    def __call__(self, teacher: Distribution, student: Distribution) -> th.Tensor:
        return self.function(teacher, student)


@dataclass(frozen=True)
class Weight:
    """w: how much ℓ counts in a state, how it is written, and what it must be told.

    :param function: ``function(states)``, shape (n,), at least 0; see :mod:`sb3_distill.rules.weights`
    :param formula: for tables
    :param needs: out of :data:`WEIGHT_NEEDS`
    """

    function: WeightFunction
    formula: str
    needs: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", _names(self.needs))

    def __call__(self, states: States) -> th.Tensor:
        return self.function(states)


@dataclass(frozen=True)
class Coefficient:
    """λ: how much the teacher counts in all states alike, ℓ and r̂ that carries it, by what episodes have returned so far.

    :param function: ``function(returns)``, a number of at least 0; see :func:`sb3_distill.rules.weights.return_ratio`
    :param formula: for tables
    """

    function: CoefficientFunction
    formula: str
    needs = frozenset({RETURNS})

    def __call__(self, returns: Returns) -> float:
        return self.function(returns)


@dataclass(frozen=True)
class Reward:
    """r̂: a function of transitions, how it is written, and what it must be told.

    :param function: ``function(transitions, loss)``, shape (n,); see :mod:`sb3_distill.rules.rewards`
    :param formula: for tables
    :param needs: out of :data:`REWARD_NEEDS`
    :param in_nats: whether it is made of logarithms of probabilities, which for continuous actions have no limits
    """

    function: RewardFunction
    formula: str
    needs: frozenset[str] = frozenset()
    in_nats: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", _names(self.needs))

    def __call__(self, step: Transitions, loss: LossFunction | None = None) -> th.Tensor:
        return self.function(step, loss)


CROSS_ENTROPY = Loss(losses.cross_entropy, "H×(π‖π_θ)")
KL = Loss(losses.kl, "KL(π‖π_θ)")
REVERSE_CROSS_ENTROPY = Loss(losses.reverse_cross_entropy, "H×(π_θ‖π)")
REVERSE_KL = Loss(losses.reverse_kl, "KL(π_θ‖π)")

V_CONDITION = Weight(weights.v_condition, "1[V_π(s_t) > V_πθ(s_t)]", frozenset({TEACHER_VALUE, STUDENT_VALUE}))
PROXIMAL = Weight(weights.proximal, "max(ρ_t, 1−ε)", frozenset({LOG_RATIO}))
RETURN_RATIO = Coefficient(weights.return_ratio, "clip((G_π − G_πθ) / (G_π − G_random), 0, 1)")
#: by the names that ``weight=`` takes
WEIGHTS: dict[str, Weight | Coefficient] = {
    "v_conditioned": V_CONDITION,
    "proximal": PROXIMAL,
    "return_ratio": RETURN_RATIO,
}


@dataclass(frozen=True)
class Critic:
    """What the student's critic learns in place of the return of who acts, and how it is written.

    :param name: what ``critic=`` takes
    :param formula: for tables
    :param needs: out of :data:`REWARD_NEEDS`
    """

    name: str
    formula: str
    needs: frozenset[str]


#: by the names that ``critic=`` takes
CRITICS: dict[str, Critic] = {
    critic.name: critic
    for critic in (
        Critic("teacher", "V_πθ(s_t) ← V_π(s_t)", frozenset({TEACHER_VALUE, STUDENT_VALUE})),
        Critic("td", "V_πθ(s_t) ← r_t + γ V_π(s_{t+1})", frozenset({TEACHER_VALUE, STUDENT_VALUE, NEXT_STATE})),
    )
}

NEXT_LOSS = Reward(rewards.next_loss, "−γ ℓ(s_{i+1})", frozenset({STUDENT, NEXT_STATE}), in_nats=True)
LOG_PROB = Reward(rewards.log_prob, "log π(a_i|s_i)", in_nats=True)
LOG_RATIO_REWARD = Reward(rewards.log_ratio, "log π(a_i|s_i) − log π_θ(a_i|s_i)", frozenset({STUDENT}), in_nats=True)
TEACHER_V = Reward(rewards.teacher_value, "r_i + γ V_π(s_{i+1}) − V_π(s_i)", frozenset({NEXT_STATE, TEACHER_VALUE}))
TEACHER_V_STUDENT_BASELINE = Reward(
    rewards.teacher_value_student_baseline,
    "r_i + γ V_π(s_{i+1}) − V_πθ(s_i)",
    frozenset({STUDENT, NEXT_STATE, TEACHER_VALUE, STUDENT_VALUE}),
)


@dataclass(frozen=True)
class Method:
    """One row of the table: who acts, what a state costs, what a step earns, how much the cost counts.

    :param name: how users call it
    :param control: who picks the actions that the environment executes, a name of :data:`~sb3_distill.rules.controls.CONTROLS`
    :param loss: ℓ, or None for 0
    :param reward: r̂, or None for 0
    :param is_gradient: whether g is the gradient of some function of θ
    :param descends: that function, for tables
    :param weight: of ℓ, or None for 1. A :class:`Coefficient` weighs r̂, too
    :param critic: what the student's critic learns of the teacher's value, or None for nothing
    :raises ValueError: for an unknown control policy, a part that needs what there is not, a weight without ℓ, a weight that
        depends on the student beside r̂, which would have to carry it, too, and a weight that takes the student to act, if
        somebody else does
    :raises TypeError: for a part that is no :class:`Loss`, :class:`Reward` or :class:`Weight`, such as a bare function
    """

    name: str
    control: str
    loss: Loss | None = None
    reward: Reward | None = None
    is_gradient: bool = False
    descends: str = "—"
    weight: Weight | Coefficient | None = None
    critic: Critic | None = None

    def __post_init__(self) -> None:
        if self.control not in CONTROLS:
            raise ValueError(
                f"Unknown control policy {self.control!r} of {self.name}: {nearest(self.control, CONTROLS)}"
            )
        for name, value, kind in (
            ("loss", self.loss, Loss),
            ("reward", self.reward, Reward),
            ("weight", self.weight, Coefficient if isinstance(self.weight, Coefficient) else Weight),
        ):
            if value is not None and not isinstance(value, kind):
                raise TypeError(
                    f"The {name} of {self.name} must be a {kind.__name__} or None, not {_short(value)}: write "
                    f'{kind.__name__}({getattr(value, "__name__", "function")}, "its formula").'
                )
            if value is not None and not callable(value.function):
                raise TypeError(
                    f"The {name} of {self.name} is made of {_short(value.function)}: give {kind.__name__} a function."
                )
        for part, known in ((self.reward, REWARD_NEEDS), (self.state_weight, WEIGHT_NEEDS)):
            unknown = sorted((part.needs if part is not None else frozenset()) - known)
            if unknown:
                raise ValueError(
                    f"{self.name} has a {type(part).__name__.lower()} that needs {unknown[0]!r}: {nearest(unknown[0], sorted(known))}"
                )
        if self.weight is not None and self.loss is None:
            raise ValueError(f"{self.name} has a weight, {self.weight.formula}, and no loss ℓ that it could weigh.")
        weight = self.state_weight
        if weight is not None and self.reward is not None:
            raise ValueError(
                f"{self.name} has a weight, {weight.formula}, which depends on the student, and a reward r̂ that does not carry it: leave "
                "the weight out, or take a method without r̂, such as 'on_policy_distill' or 'teacher_distill'."
            )
        if weight is not None and STUDENT_VALUE in weight.needs and self.control != "student":
            raise ValueError(
                f"{self.name} has a weight, {weight.formula}, which needs the student's value, and control={self.control!r}: a critic "
                "learns the return of who acts. Set control='student'."
            )
        if weight is not None and LOG_RATIO in weight.needs and self.control == "mixed":
            raise ValueError(
                f"{self.name} has a weight, {weight.formula}, of the student's own actions, and control='mixed', where the teacher's are "
                "among them: set control='student'."
            )
        if self.coefficient is not None and self.control != "student":
            raise ValueError(
                f"{self.name} has a weight, {self.coefficient.formula}, by the return of the student, and control={self.control!r} plays "
                "in its place: set control='student'."
            )

    @property
    def state_weight(self) -> Weight | None:
        """w, if it differs from state to state."""
        return self.weight if isinstance(self.weight, Weight) else None

    @property
    def coefficient(self) -> Coefficient | None:
        """λ, if the weight is the same in all states."""
        return self.weight if isinstance(self.weight, Coefficient) else None

    @property
    def needs(self) -> frozenset[str]:
        """What its parts need."""
        parts = (self.loss, self.reward, self.weight, self.critic)
        return frozenset().union(*(part.needs for part in parts if part is not None))

    def loss_of(self, teacher: Distribution, student: Distribution) -> th.Tensor:
        """
        :param teacher: π in n states
        :param student: π_θ there
        :return: ℓ there, shape (n,)
        :raises ValueError: if there is no ℓ, or it is anything else, which would be broadcast or fail within SB3
        """
        if self.loss is None:
            raise ValueError(f"Row {self.name!r} has no loss ℓ.")
        return _of_shape(self.loss(teacher, student), f"loss ℓ of row {self.name!r}", _n_states(student), "states")

    def weight_of(self, states: States) -> th.Tensor:
        """
        :param states: n of them
        :return: w there, shape (n,)
        :raises ValueError: as :meth:`loss_of`
        """
        if self.state_weight is None:
            raise ValueError(f"Row {self.name!r} has no weight w.")
        return _of_shape(
            self.state_weight(states), f"weight w of row {self.name!r}", _n_states(states.student), "states"
        )

    def reward_of(self, step: Transitions, bound: float | None = None) -> th.Tensor:
        """
        :param step: n transitions
        :param bound: of |r̂|; None for none
        :return: r̂ of them, shape (n,), off the graph
        :raises ValueError: as :meth:`loss_of`
        """
        if self.reward is None:
            raise ValueError(f"Row {self.name!r} has no reward r̂.")
        reward = self.reward(step, None if self.loss is None else self.loss_of)
        reward = _of_shape(reward, f"reward r̂ of row {self.name!r}", len(step.reward_t), "transitions").detach()
        return bounded(reward, bound)


def _n_states(distribution: Distribution) -> int:
    d: Any = distribution.distribution
    return int((d[0] if isinstance(d, list) else d).batch_shape[0])


def _of_shape(value: Any, what: str, n: int, of: str) -> th.Tensor:
    if isinstance(value, th.Tensor) and value.shape == (n,):
        return value
    raise ValueError(f"The {what} must return a tensor of shape (n,) for n {of}, here ({n},), not {_short(value)}.")


def _short(value: Any) -> str:
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    if isinstance(shape, tuple):
        return f"{'a tensor' if isinstance(value, th.Tensor) else f'{kind}'} of shape {tuple(shape)}"
    return f"{kind} {' '.join(repr(value).split())[:60]}"


_PAPER = (
    Method("teacher_distill", "teacher", CROSS_ENTROPY, None, True, "E_π Σ H×(π‖π_θ)"),
    Method("on_policy_distill", "student", CROSS_ENTROPY, None, False, "nothing"),
    Method("entropy_regularised", "student", None, LOG_PROB, True, "E_πθ Σ −log π(a_t|s_t)"),
    Method("n_distill", "student", CROSS_ENTROPY, NEXT_LOSS, True, "E_πθ Σ H×(π‖π_θ)"),
    Method("expected_entropy", "student", REVERSE_CROSS_ENTROPY, NEXT_LOSS, True, "E_πθ Σ −log π(a_t|s_t)"),
    Method("teacher_v_reward", "student", None, TEACHER_V, True, "−E_πθ Σ r_t"),
)
_UNBIASED = (
    _PAPER[0],
    _PAPER[1],
    Method("entropy_regularised", "student", None, LOG_RATIO_REWARD, True, "E_πθ Σ KL(π_θ‖π)"),
    Method("n_distill", "student", KL, NEXT_LOSS, True, "E_πθ Σ KL(π‖π_θ)"),
    Method("expected_entropy", "student", REVERSE_KL, NEXT_LOSS, True, "E_πθ Σ KL(π_θ‖π)"),
    _PAPER[5],
)
METHODS: dict[str, dict[str, Method]] = {
    form: {row.name: row for row in rows} for form, rows in (("unbiased", _UNBIASED), ("paper", _PAPER))
}
#: on-policy distill as others have named it, beside the environment's reward; they are what they are in both forms
NAMED: dict[str, Method] = {
    row.name: row
    for row in (
        Method("kickstarting", "student", CROSS_ENTROPY),
        Method("proximal_distill", "student", CROSS_ENTROPY, weight=PROXIMAL),
    )
}


def method_names() -> tuple[str, ...]:
    """
    :return: what ``method`` may be, by name
    """
    return (*METHODS[FORMS[0]], *NAMED)


def is_as_printed(row: Method) -> bool:
    """
    :param row: any
    :return: whether it is one of the paper's form that the unbiased form does not have
    """
    return row in METHODS["paper"].values() and row not in METHODS["unbiased"].values()


def get_method(
    method: str | Method,
    form: str | None = None,
    baseline: str | None = None,
    control: str | None = None,
    weight: str | None = None,
) -> Method:
    """
    The row that five settings mean: ``form`` and ``baseline`` choose between variants of named rows, ``control`` replaces q, and
    ``weight`` weighs ℓ.

    :param method: a row's name (hyphens count as underscores), or a row of the user's own, which is what it is
    :param form: ``"unbiased"`` (default) or ``"paper"``, see above
    :param baseline: of teacher V reward: ``"teacher"`` (default) subtracts V_π(s_i), ``"student"`` V_πθ(s_i)
    :param control: a name of :data:`~sb3_distill.rules.controls.CONTROLS`; by default the row's own
    :param weight: a name of :data:`WEIGHTS`; by default the row's own, which is 1 for those that have a name
    :return: the row
    :raises ValueError: for a name, form, baseline or control policy that there is not (the message lists those there are), a
        baseline that the row does not have, and a row of the user's own beside settings that say something else
    """
    for name, value, allowed in (
        ("form", form, FORMS),
        ("baseline", baseline, BASELINES),
        ("control policy", control, CONTROLS),
        ("weight", weight, WEIGHTS),
    ):
        if value is not None and value not in allowed:
            raise ValueError(f"Unknown {name} {value!r}: choose one of {', '.join(map(repr, allowed))}.")
    if isinstance(method, Method):
        _check_said_twice(method, form, baseline, control, weight)
        return method
    rows = METHODS[form or FORMS[0]] | NAMED
    name = str(method).replace("-", "_")
    if name not in rows:
        raise ValueError(f"Unknown method {method!r}: {nearest(name, rows)}")
    row = rows[name]
    if baseline == "student":
        if row.reward is not TEACHER_V:
            raise ValueError(f"baseline='student' belongs to teacher_v_reward, not to {row.name}: leave it out.")
        row = replace(row, reward=TEACHER_V_STUDENT_BASELINE, is_gradient=False, descends="nothing")
    changes: dict[str, Any] = {} if control is None else {"control": control}
    if weight is not None:
        if row.weight not in (None, WEIGHTS[weight]):
            raise ValueError(f"{row.name} has a weight of its own, {row.weight.formula}: leave weight={weight!r} out.")  # type: ignore[union-attr]
        changes |= {"weight": WEIGHTS[weight]}
    if weight is not None or control not in (None, row.control):
        changes |= {"is_gradient": False, "descends": "nothing"}
    return replace(row, **changes) if changes else row


def with_critic(row: Method, critic: str | None) -> Method:
    """
    :param row: of the table
    :param critic: a name of :data:`CRITICS`; by default the row's own
    :return: the row, whose student's critic learns that
    :raises ValueError: for a name that there is not, and one that the row has another of
    """
    if critic is None:
        return row
    if critic not in CRITICS:
        raise ValueError(f"Unknown critic {critic!r}: choose one of {', '.join(map(repr, CRITICS))}.")
    if row.critic not in (None, CRITICS[critic]):
        raise ValueError(f"{row.name} has a critic of its own, {row.critic.formula}: leave critic={critic!r} out.")  # type: ignore[union-attr]
    return replace(row, critic=CRITICS[critic])


def _check_said_twice(
    row: Method, form: str | None, baseline: str | None, control: str | None, weight: str | None
) -> None:
    """:raises ValueError: for settings that say something else than a row that is given whole"""
    paper, unbiased = (row in METHODS[name].values() for name in ("paper", "unbiased"))
    is_student = row.reward is TEACHER_V_STUDENT_BASELINE
    says: dict[str, tuple[str | None, bool]] = {
        "form": (form, (form == "paper" and not paper) or (form == "unbiased" and paper and not unbiased)),
        "baseline": (baseline, (baseline == "student" and not is_student) or (baseline == "teacher" and is_student)),
        "control": (control, control not in (None, row.control)),
        "weight": (weight, weight is not None and row.weight is not WEIGHTS[weight]),
    }
    for name, (value, is_wrong) in says.items():
        if is_wrong:
            raise ValueError(
                f"method is the row {row.name!r}, given whole, and {name}={value!r} says something else: leave {name} out."
            )
