"""The orbits of figure 2 (Czarnecki et al. 2019): two parameters that follow the expected update, without noise.

The MDP, its student and the closed forms of the update are in :mod:`sb3_distill.envs.oscillation`.
"""

from typing import Any, NamedTuple

import numpy as np
import torch as th

from sb3_distill.envs.oscillation import (
    PARAMETER,
    RIGHT,
    STRENGTH,
    oscillation_mdp,
    oscillation_policy,
    oscillation_teacher,
)
from sb3_distill.rules.methods import NEXT_LOSS, Loss, Method
from sb3_distill.tabular.exact import MDP


def linear_loss(teacher: Any, student: Any) -> th.Tensor:
    """ℓ = −4 Σ_a π(a|s) π_θ(a|s), shape (…): linear in the student's probabilities, least where it does as the teacher does."""
    return -STRENGTH * (teacher.distribution.probs * student.distribution.probs).sum(-1)


LINEAR = Loss(linear_loss, "−4 Σ_a π π_θ")
#: the two rows of figure 2, with the linear loss
ROWS = {
    "on_policy_distill": Method("on_policy_distill", "student", LINEAR),
    "n_distill": Method("n_distill", "student", LINEAR, NEXT_LOSS, True, "E_πθ Σ ℓ"),
}
#: θ that on-policy distill circles around: x = 1/5, y = 1/2
CENTRE = np.array([-np.log(4.0), 0.0])
#: (x, y) that N-distill converges to
LIMIT = np.array([1.0, 1.0])


def exact_update(method: Method, theta: np.ndarray) -> np.ndarray:
    """
    g(θ) by the linear solves of :mod:`sb3_distill.tabular.exact`, from logits to the shared parameters by the chain rule.

    :param method: any row
    :param theta: (θ_1, θ_2), shape (2,)
    :return: shape (2,)
    """
    logits = th.from_numpy(np.log(oscillation_policy(theta)))
    # A teacher that is certain, in logits that are finite: exp(−50) is 2e-22.
    mdp = MDP.of(oscillation_mdp(), np.log(np.maximum(oscillation_teacher(), np.exp(-50))))
    # The logit of R is log π(R) − log π(L) = θ_k, and g of a softmax sums to 0 over actions, so R's entry is all of it.
    right = mdp.expected_update(method, logits, 1.0)[:, RIGHT].numpy()
    return np.bincount(PARAMETER, right, minlength=2)


def update(name: str, theta: np.ndarray) -> np.ndarray:
    """
    g(θ) in closed form, for integration.

    :param name: a key of ``ROWS``
    :param theta: (θ_1, θ_2), shape (…, 2)
    :return: shape (…, 2)
    """
    p = 1 / (1 + np.exp(-theta))
    x, y = p[..., 0], p[..., 1]
    if name == "on_policy_distill":
        push = np.stack([4 * y - 2, 1 - 5 * x], axis=-1)
    elif name == "n_distill":
        push = np.stack([0.5 - y, -1 - x], axis=-1)
    else:
        raise ValueError(f"Unknown row {name!r}: choose one of {list(ROWS)}.")
    return push * p * (1 - p)


class Orbit(NamedTuple):
    """A path of the parameters, T points along it; "…" are paths side by side.

    :param time: shape (T,)
    :param theta: (θ_1, θ_2), shape (T, …, 2)
    :param policy: (x, y) = (σ(θ_1), σ(θ_2)), shape (T, …, 2)
    :param loss: E_πθ Σ ℓ, shape (T, …)
    """

    time: np.ndarray
    theta: np.ndarray
    policy: np.ndarray
    loss: np.ndarray


def invariant(theta: np.ndarray) -> np.ndarray:
    """
    What on-policy distill leaves as it is, and N-distill does not.

    :param theta: (θ_1, θ_2), shape (…, 2)
    :return: 3 θ_1 + exp(−θ_1) + 4 exp(θ_1) + 4 cosh(θ_2), least at ``CENTRE``, shape (…)
    """
    one, two = theta[..., 0], theta[..., 1]
    return 3 * one + np.exp(-one) + 4 * np.exp(one) + 4 * np.cosh(two)


def expected_loss(policy: np.ndarray) -> np.ndarray:
    """
    :param policy: (x, y), shape (…, 2)
    :return: E_πθ Σ ℓ in closed form, shape (…)
    """
    x, y = policy[..., 0], policy[..., 1]
    return (x - 2 * y - 2 * x * y - 11) / 2


def orbit(name: str, start: np.ndarray, duration: float, step: float = 0.1) -> Orbit:
    """
    dθ/dt = −g(θ) by the classical Runge-Kutta method of order four.

    :param name: a key of ``ROWS``
    :param start: θ at time 0, shape (…, 2)
    :param duration: until when
    :param step: of time; a turn of on-policy distill takes at least 35, N-distill comes within 1e-3 of its limit at 2,000
    :return: the path
    """
    theta = np.asarray(start, float)
    path = [theta]
    for _ in range(round(duration / step)):
        k1 = -update(name, theta)
        k2 = -update(name, theta + step / 2 * k1)
        k3 = -update(name, theta + step / 2 * k2)
        k4 = -update(name, theta + step * k3)
        theta = theta + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        path.append(theta)
    thetas = np.stack(path)
    policy = oscillation_policy(thetas)[..., [0, 1], RIGHT]
    return Orbit(step * np.arange(len(thetas)), thetas, policy, expected_loss(policy))


def returns(path: Orbit) -> np.ndarray:
    """
    Where a single orbit is when it has gone once, twice, … around the centre.

    :param path: of on-policy distill, of shape (T, 2)
    :return: ‖θ − θ_start‖ over the distance of θ_start from the centre after each full turn, shape (turns,)
    """
    radius = path.theta - CENTRE
    angle = np.unwrap(np.arctan2(radius[:, 1], radius[:, 0]))
    turned = np.abs(angle - angle[0]) / (2 * np.pi)
    full = np.arange(1, int(turned[-1]) + 1)
    at = np.stack([np.interp(full, turned, radius[:, i]) for i in (0, 1)], axis=-1)
    return np.linalg.norm(at - radius[0], axis=-1) / np.linalg.norm(radius[0])
