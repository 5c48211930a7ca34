"""Exact mathematics of distillation in tables: no sampling, float64, any number of MDPs at once.

:class:`MDP` holds an MDP with a teacher and gives the expected update g(θ) of a row of :data:`sb3_distill.METHODS`, its
Jacobian and the loss that the row descends (Czarnecki et al. 2019, equation 1, table 1, theorems 1 and 2). ℓ and r̂ are
those of :mod:`sb3_distill.rules.losses` and :mod:`sb3_distill.rules.rewards`, so what is proved here is proved about the functions that
train networks.

:func:`policy_value`, :func:`state_visits` and :func:`expected_return` are for the environments' larger arrays.

All of it rests on two linear solves. With P_π(s, s') the probability that a step from s goes on to s' and p_1 the distribution
of the first state,

    V_π = (1 − γ P_π)^−1 r_π,      d_π = (1 − γ P_πᵀ)^−1 p_1,      d_π(s) = E_π Σ_t γ^{t−1} 1[s_t = s]

Episodes end surely, so γ = 1 is as good as any.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.distributions import CategoricalDistribution, Distribution

from sb3_distill.envs.tabular import TabularMDP
from sb3_distill.rules.bounds import bounded
from sb3_distill.rules.methods import STUDENT_VALUE, Method
from sb3_distill.rules.rewards import Transitions
from sb3_distill.rules.weights import Returns, States

#: worlds whose dense matrices exist at the same time, 1.3 MB each at 400 states
CHUNK = 64

#: from the control policy's P(a | s), shape (…, S, A), to the weight of each state in the update, shape (…, S)
Weigh = Callable[[th.Tensor], th.Tensor]


def solve_value(chain: th.Tensor, reward: th.Tensor, gamma: float) -> th.Tensor:
    """
    V_π = (1 − γ P_π)^−1 r_π.

    :param chain: P_π(s, s'), shape (…, S, S); rows sum to less than 1 by the probability that the episode ends
    :param reward: r_π(s), shape (…, S)
    :param gamma: discount factor γ
    :return: shape (…, S)
    """
    one = th.eye(chain.shape[-1], dtype=chain.dtype)
    return th.linalg.solve(one - gamma * chain, reward.unsqueeze(-1)).squeeze(-1)


def solve_visits(chain: th.Tensor, start: th.Tensor, gamma: float) -> th.Tensor:
    """
    d_π = (1 − γ P_πᵀ)^−1 p_1, the expected visits of an episode to each state, the one at time t counted γ^{t−1}.

    :param chain: P_π(s, s'), shape (…, S, S)
    :param start: p_1(s), shape (…, S)
    :param gamma: discount factor γ; 1 for plain visits
    :return: shape (…, S)
    """
    return solve_value(chain.transpose(-1, -2), start, gamma)


@dataclass(frozen=True)
class MDP:
    """
    S states, A actions, episodes that end by chance, a teacher. Leading dimensions "…" are MDPs side by side.

    :param transition: P(s' | s, a), shape (…, S, A, S); sums to less than 1: the rest is the end of the episode
    :param reward: E[r | s, a], shape (…, S, A)
    :param start: p_1(s), shape (…, S)
    :param teacher_logits: log π(a | s) up to a constant, finite, shape (…, S, A)
    """

    transition: th.Tensor
    reward: th.Tensor
    start: th.Tensor
    teacher_logits: th.Tensor

    @classmethod
    def random(cls, seed: int, n_states: int = 5, n_actions: int = 3, end: float = 0.2) -> "MDP":
        """
        :param seed: one seed, one MDP
        :param n_states: S
        :param n_actions: A
        :param end: mean probability that a step ends the episode
        :return: an MDP whose transitions, rewards (−2 to 2) and teacher are random
        """
        generator = th.Generator().manual_seed(seed)

        def uniform(*shape: int) -> th.Tensor:
            return th.rand(*shape, generator=generator, dtype=th.float64)

        transition = uniform(n_states, n_actions, n_states) ** 3
        ends = end * 2 * uniform(n_states, n_actions, 1)
        transition = (1 - ends) * transition / transition.sum(-1, keepdim=True)
        start = uniform(n_states)
        return cls(
            transition,
            4 * uniform(n_states, n_actions) - 2,
            start / start.sum(),
            1.5 * th.randn(n_states, n_actions, generator=generator, dtype=th.float64),
        )

    @classmethod
    def of(cls, tabular: TabularMDP, teacher_logits: Any) -> "MDP":
        """
        :param tabular: an environment's arrays
        :param teacher_logits: finite, shape (…, S, A), an array or a tensor
        :return: the same MDP, its moves multiplied out: A · S² numbers
        """
        dense = tabular.dense()
        arrays = (dense.transition, dense.reward, tabular.start, teacher_logits)
        return cls(*(th.as_tensor(x, dtype=th.float64) for x in arrays))

    @classmethod
    def stack(cls, mdps: "Sequence[MDP]") -> "MDP":
        """
        :param mdps: N of one shape
        :return: all side by side, with a leading dimension of N
        """
        fields = ("transition", "reward", "start", "teacher_logits")
        return cls(*(th.stack([getattr(mdp, field) for mdp in mdps]) for field in fields))

    @property
    def n_states(self) -> int:
        """How many states, S."""
        return self.transition.shape[-1]

    @property
    def n_actions(self) -> int:
        """How many actions, A."""
        return self.transition.shape[-2]

    # --- policies -----------------------------------------------------------------------------------------------------

    def distribution(self, logits: th.Tensor) -> Distribution:
        """
        :param logits: shape (…, A)
        :return: SB3's distribution over actions, as the deep algorithms have it
        """
        return CategoricalDistribution(self.n_actions).proba_distribution(logits)

    def control(self, method: Method, student: th.Tensor, beta: float = 1.0) -> th.Tensor:
        """
        :param method: a row
        :param student: π_θ(a | s), shape (…, S, A)
        :param beta: β of mixed control, drawn at each step
        :return: q(a | s) of that row, shape (…, S, A)
        """
        if method.control == "student":
            return student
        if method.control == "teacher":
            return self.teacher_logits.softmax(-1)
        if method.control == "mixed":
            return beta * self.teacher_logits.softmax(-1) + (1 - beta) * student
        return th.full_like(student, 1 / self.n_actions)

    def chain(self, probs: th.Tensor) -> th.Tensor:
        """
        :param probs: a policy, shape (…, S, A)
        :return: P_π(s, s'), shape (…, S, S)
        """
        return th.einsum("...sa,...sat->...st", probs, self.transition)

    def visits(self, probs: th.Tensor, gamma: float) -> th.Tensor:
        """
        :param probs: a policy, shape (…, S, A)
        :param gamma: 1 for plain visits, below for discounted ones
        :return: d_π(s), shape (…, S)
        """
        return solve_visits(self.chain(probs), self.start, gamma)

    def policy_value(self, probs: th.Tensor, reward_sa: th.Tensor, gamma: float) -> th.Tensor:
        """
        :param probs: a policy, shape (…, S, A)
        :param reward_sa: any reward E[r | s, a], shape (…, S, A); ``mdp.reward`` is the environment's
        :param gamma: discount factor γ
        :return: V(s), shape (…, S)
        """
        return solve_value(self.chain(probs), (probs * reward_sa).sum(-1), gamma)

    def action_value(self, probs: th.Tensor, reward_sa: th.Tensor, gamma: float) -> th.Tensor:
        """
        :param probs: a policy, shape (…, S, A)
        :param reward_sa: any reward E[r | s, a], shape (…, S, A)
        :param gamma: discount factor γ
        :return: Q(s, a) = E[r + γ V(s')], shape (…, S, A)
        """
        value = self.policy_value(probs, reward_sa, gamma)
        return reward_sa + gamma * th.einsum("...sat,...t->...sa", self.transition, value)

    def teacher_value(self, gamma: float) -> th.Tensor:
        """
        :param gamma: discount factor γ
        :return: V_π(s) of the teacher, shape (…, S)
        """
        return self.policy_value(self.teacher_logits.softmax(-1), self.reward, gamma)

    def expected_return(self, probs: th.Tensor, gamma: float = 1.0) -> th.Tensor:
        """
        :param probs: a policy, shape (…, S, A)
        :param gamma: discount factor γ
        :return: E Σ_t γ^{t−1} r_t of an episode, shape (…)
        """
        return (self.start * self.policy_value(probs, self.reward, gamma)).sum(-1)

    # --- update rules -------------------------------------------------------------------------------------------------

    def reward_sa(self, method: Method, logits: th.Tensor, gamma: float, bound: float | None = None) -> th.Tensor:
        """
        E[r̂ | s, a] of a row, by listing every transition, the end of the episode among them.

        :param method: a row with a reward
        :param logits: the student's θ, shape (…, S, A); the result is differentiable in it
        :param gamma: discount factor γ
        :param bound: of |r̂|; None for none
        :return: shape (…, S, A)
        """
        n_s, n_a = self.n_states, self.n_actions
        assert method.reward is not None
        s, a, t = (x.flatten() for x in th.meshgrid(th.arange(n_s), th.arange(n_a), th.arange(n_s + 1), indexing="ij"))
        following = t.clamp(max=n_s - 1)  # whatever stands for the end must not matter
        value = self.teacher_value(gamma)
        student_value = None
        if STUDENT_VALUE in method.reward.needs:
            student_value = self.policy_value(logits.softmax(-1), self.reward, gamma)[..., s]
        step = Transitions(
            action_t=a,
            reward_t=self.reward[..., s, a],
            continues_t=(t < n_s).double(),
            gamma=gamma,
            teacher_t=self.distribution(self.teacher_logits[..., s, :]),
            student_t=self.distribution(logits[..., s, :]),
            teacher_value_t=value[..., s],
            student_value_t=student_value,
            teacher_tp1=self.distribution(self.teacher_logits[..., following, :]),
            student_tp1=self.distribution(logits[..., following, :]),
            teacher_value_tp1=value[..., following],
        )
        end = 1 - self.transition.sum(-1, keepdim=True)
        probability = th.cat([self.transition, end], dim=-1)  # (…, S, A, S + 1)
        reward = method.reward(step, method.loss).reshape(probability.shape)
        return (probability * bounded(reward, bound)).sum(-1)

    def weight_sa(
        self, method: Method, logits: th.Tensor, old: th.Tensor, gamma: float, clip_range: float
    ) -> th.Tensor:
        """
        w of a row in each state, for each action that the student may have drawn there.

        :param method: a row with a weight that differs from state to state
        :param logits: the student's θ, shape (…, S, A); the result is differentiable in it where w has a gradient
        :param old: those with which the rollout was made
        :param gamma: discount factor γ of both values
        :param clip_range: ε of the proximal weight
        :return: shape (…, S, A)
        """
        assert method.state_weight is not None
        shape = logits.shape

        def in_each(x: th.Tensor) -> th.Tensor:
            return x.unsqueeze(-1).expand(shape)

        pairs = (*shape, self.n_actions)
        return method.state_weight(
            States(
                self.distribution(self.teacher_logits.unsqueeze(-2).expand(pairs)),
                self.distribution(logits.unsqueeze(-2).expand(pairs)),
                in_each(self.teacher_value(gamma)),
                in_each(self.policy_value(old.detach().softmax(-1), self.reward, gamma)),
                logits.log_softmax(-1) - old.log_softmax(-1),
                clip_range,
            )
        )

    def coefficient(self, method: Method, logits: th.Tensor) -> float:
        """
        λ of a row with mean returns as they are.

        :param method: a row
        :param logits: the student's θ, shape (S, A): of one MDP
        :return: 1 if the row has none
        """
        if method.coefficient is None:
            return 1.0
        teacher, student = self.teacher_logits.softmax(-1), logits.detach().softmax(-1)
        random = th.full_like(student, 1 / self.n_actions)
        return method.coefficient(Returns(*(self.expected_return(p).item() for p in (teacher, student, random))))

    def expected_update(
        self,
        method: Method,
        logits: th.Tensor,
        gamma: float,
        weigh: Weigh | None = None,
        *,
        beta: float = 1.0,
        old: th.Tensor | None = None,
        clip_range: float = 0.2,
        bound: float | None = None,
    ) -> th.Tensor:
        """
        g(θ) = Σ_s d_q(s) [∇ Σ_a π_old(a|s) w(s, a) ℓ(s) − Σ_a π_θ(a|s) ∇log π_θ(a|s) Q̂(s, a)], with Q̂ the value of r̂ (equation 1).

        Under mixed control Q̂ is that of the mixture, and π_θ stands before ∇log π_θ since the ratio π_θ/q weighs what q has drawn.

        :param method: a row
        :param logits: the student's θ, shape (…, S, A)
        :param gamma: discount factor γ
        :param weigh: how states are weighted; by their discounted visits under q unless given. ``lambda q: mdp.visits(q, 1)``
            are the plain visits that SB3, like everyone, has: then with γ < 1 no row with a reward is a gradient field
        :param beta: β of mixed control
        :param old: θ with which the rollout was made, by default the same
        :param clip_range: ε of the proximal weight
        :param bound: of |r̂|; None for none
        :return: shape (…, S, A)
        :raises ValueError: for a reward under a control policy that is neither the student nor a mixture
        """
        options = {"beta": beta, "clip_range": clip_range, "bound": bound}
        return self._update(method, logits.detach().requires_grad_(), gamma, weigh, old, False, **options)  # type: ignore[arg-type]

    def jacobian(
        self, method: Method, logits: th.Tensor, gamma: float, weigh: Weigh | None = None, bound: float | None = None
    ) -> th.Tensor:
        """
        J = ∂g/∂θ by automatic differentiation, through visits and values too.

        :param method: a row
        :param logits: the student's θ, shape (…, S, A)
        :param gamma: discount factor γ
        :param weigh: as for :meth:`expected_update`
        :param bound: of |r̂|; None for none
        :return: shape (…, S·A, S·A), J[i, j] = ∂g_i / ∂θ_j
        """
        logits = logits.detach().requires_grad_()
        update = self._update(method, logits, gamma, weigh, None, True, bound=bound).flatten(-2)
        rows = [
            # MDPs do not meet, so the gradient of a sum over them is every MDP's own.
            th.autograd.grad(update[..., i].sum(), logits, retain_graph=True)[0].flatten(-2)
            for i in range(update.shape[-1])
        ]
        return th.stack(rows, dim=-2)

    def _update(
        self,
        method: Method,
        logits: th.Tensor,
        gamma: float,
        weigh: Weigh | None,
        old: th.Tensor | None,
        create_graph: bool,
        beta: float = 1.0,
        clip_range: float = 0.2,
        bound: float | None = None,
    ) -> th.Tensor:
        if method.reward is not None and method.control not in ("student", "mixed"):
            raise ValueError(
                f"{method.name}: a reward needs the student's own actions; set control='student' or leave the reward out."
            )
        # ∇ acts on this copy. To it visits and values are numbers; to the Jacobian they are functions of θ.
        theta = logits.clone()
        acting = logits if old is None else old
        student = logits.softmax(-1)
        control = self.control(method, acting.softmax(-1), beta)
        visits = self.visits(control, gamma) if weigh is None else weigh(control)
        surrogate = th.zeros(visits.shape, dtype=th.float64)
        if method.loss is not None:
            loss = method.loss(self.distribution(self.teacher_logits), self.distribution(theta))
            if method.state_weight is not None:
                weight = self.weight_sa(method, theta, acting, gamma, clip_range)
                loss = (acting.softmax(-1) * weight).sum(-1) * loss
            surrogate = surrogate + loss
        if method.reward is not None:
            q_hat = self.action_value(control, self.reward_sa(method, acting, gamma, bound), gamma)
            surrogate = surrogate - (student * theta.log_softmax(-1) * q_hat).sum(-1)
        surrogate = self.coefficient(method, acting) * surrogate
        return th.autograd.grad((visits * surrogate).sum(), theta, create_graph=create_graph)[0]

    def stated_loss(self, method: Method, logits: th.Tensor, gamma: float) -> th.Tensor:
        """
        What the table says that a row descends: E_q Σ_t γ^{t−1} c(s_t), c written out here from the table and not by the
        functions of :mod:`sb3_distill.rules.losses`, which are under test.

        :param method: a row that is a gradient field
        :param logits: the student's θ, shape (…, S, A); the result is differentiable in it
        :param gamma: discount factor γ
        :return: shape (…)
        :raises ValueError: for a row that descends nothing that is known here
        """
        student, teacher = logits.softmax(-1), self.teacher_logits.softmax(-1)
        log_student, log_teacher = logits.log_softmax(-1), self.teacher_logits.log_softmax(-1)
        cost = {
            "E_π Σ H×(π‖π_θ)": -teacher * log_student,
            "E_πθ Σ H×(π‖π_θ)": -teacher * log_student,
            "E_πθ Σ KL(π‖π_θ)": teacher * (log_teacher - log_student),
            "E_πθ Σ −log π(a_t|s_t)": -student * log_teacher,
            "E_πθ Σ KL(π_θ‖π)": student * (log_student - log_teacher),
            "−E_πθ Σ r_t": -student * self.reward,
        }.get(method.descends)
        if cost is None:
            raise ValueError(f"{method.name} descends {method.descends}.")
        return (self.visits(self.control(method, student), gamma) * cost.sum(-1)).sum(-1)


def asymmetry(jacobian: th.Tensor) -> th.Tensor:
    """
    ‖J − Jᵀ‖ / ‖J‖ in Frobenius norms: 0 if and only if the field is locally a gradient (theorem 1), and at most 2.

    :param jacobian: shape (…, n, n)
    :return: shape (…)
    """
    difference = jacobian - jacobian.transpose(-1, -2)
    return th.linalg.matrix_norm(difference) / th.linalg.matrix_norm(jacobian)


# --- the environments' arrays -----------------------------------------------------------------------------------------


def policy_value(mdp: TabularMDP, policy: np.ndarray, gamma: float) -> np.ndarray:
    """
    V_π(s). ``mdp.backup`` makes Q_π of it.

    :param mdp: one or many
    :param policy: π(a | s), shape (…, S, A)
    :param gamma: discount factor γ
    :return: shape (…, S); 0 in terminal states
    """
    return _solved(mdp, policy, lambda part, chain, reward: solve_value(chain, reward, gamma))


def state_visits(mdp: TabularMDP, policy: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """
    How often an episode steps from each state. The sum over states at γ = 1 is the mean length of an episode.

    :param mdp: one or many
    :param policy: π(a | s), shape (…, S, A)
    :param gamma: 1 for plain visits, below for discounted ones
    :return: shape (…, S); 0 in terminal states
    """
    return _solved(mdp, policy, lambda part, chain, reward: solve_visits(chain, th.from_numpy(part.start), gamma))


def expected_return(mdp: TabularMDP, policy: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """
    E Σ_t γ^{t−1} r_t of an episode.

    :param mdp: one or many
    :param policy: π(a | s), shape (…, S, A)
    :param gamma: discount factor γ
    :return: shape (…)
    """
    return (mdp.start * policy_value(mdp, policy, gamma)).sum(-1)


def _solved(
    mdp: TabularMDP, policy: np.ndarray, solve: Callable[[TabularMDP, th.Tensor, th.Tensor], th.Tensor]
) -> np.ndarray:
    """``solve`` of a policy's chain and reward, some MDPs at a time."""
    if mdp.terminal.ndim == 1:
        return solve(mdp, *map(th.from_numpy, mdp.chain(policy))).numpy()
    policy = np.broadcast_to(policy, (*mdp.terminal.shape, mdp.n_actions))
    parts = [slice(i, i + CHUNK) for i in range(0, len(policy), CHUNK)]
    return np.concatenate([solve(mdp[i], *map(th.from_numpy, mdp[i].chain(policy[i]))).numpy() for i in parts])
