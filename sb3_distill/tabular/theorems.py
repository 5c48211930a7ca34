"""The paper's theorems, checked on random MDPs and on the oscillation: ``python -m sb3_distill.tabular.theorems``.

For every row of the table, in both forms: whether the Jacobian J of its expected update g is symmetric, ‖J − Jᵀ‖ / ‖J‖, and
whether g is the gradient of the loss that the table states, ‖g − ∇L‖ / ‖∇L‖, at γ = 1 and, with states weighted by their
discounted visits, at γ = 0.9. Each number is the worst over the MDPs.

For the oscillation of figure 2, integrated without noise: whether on-policy distill's orbit closes, and whether N-distill's loss
falls all the way to its limit. Exits with an error if a theorem fails.
"""

import argparse
from typing import NamedTuple

import numpy as np
import torch as th
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from sb3_distill.rules.distributions import unvalidated
from sb3_distill.rules.methods import METHODS, Method
from sb3_distill.tabular.exact import MDP, asymmetry
from sb3_distill.tabular.oscillation import CENTRE, LIMIT, invariant, orbit, returns

GAMMAS = (1.0, 0.9)
#: a gradient field's Jacobian is less asymmetric than the first, on-policy distill's more than the second
SYMMETRIC, ASYMMETRIC = 1e-6, 0.05
#: relative error of g against the gradient of the stated loss
GRADIENT_ERROR = 1e-8
#: N-distill's time, enough to come within DISTANCE of its limit
DURATION, DISTANCE = 3_000.0, 1e-3
#: full turns of an orbit that must come back to within RETURN of where it started, as a share of its radius
TURNS, RETURN = 10, 0.01
#: how much, relative, the integration may change what is constant along an orbit
DRIFT = 1e-6
#: θ that both orbits start from
START = np.array([0.0, 0.0])


class FieldCheck(NamedTuple):
    """What one row's update is on N MDPs.

    :param method: the row
    :param form: ``"paper"``, ``"unbiased"`` or ``"both"`` where the forms are the same
    :param gamma: discount factor γ
    :param asymmetry: ‖J − Jᵀ‖ / ‖J‖, shape (N,)
    :param error: ‖g − ∇L‖ / ‖∇L‖, shape (N,); None where the table states no loss
    """

    method: Method
    form: str
    gamma: float
    asymmetry: np.ndarray
    error: np.ndarray | None

    @property
    def worst(self) -> float:
        """The largest asymmetry of a gradient field, the smallest of another."""
        return float(self.asymmetry.max() if self.method.is_gradient else self.asymmetry.min())

    @property
    def holds(self) -> bool:
        """Whether the update is a gradient field, and that of its loss, exactly where the table says so."""
        if not self.method.is_gradient:
            return self.worst > ASYMMETRIC
        return self.worst < SYMMETRIC and self.error is not None and bool(self.error.max() < GRADIENT_ERROR)


def random_mdps(n: int, seed: int = 0) -> tuple[MDP, th.Tensor]:
    """
    :param n: how many
    :param seed: of the first
    :return: MDPs of 5 states and 3 actions side by side, and a student's logits, shape (n, 5, 3)
    """
    mdp = MDP.stack([MDP.random(seed + i) for i in range(n)])
    generator = th.Generator().manual_seed(seed)
    return mdp, th.randn(*mdp.reward.shape, generator=generator, dtype=th.float64)


def check_field(mdp: MDP, logits: th.Tensor, method: Method, form: str, gamma: float) -> FieldCheck:
    """
    :param mdp: N MDPs
    :param logits: θ, shape (N, S, A)
    :param method: a row
    :param form: which one it is of
    :param gamma: discount factor γ
    :return: how it fares
    """
    found = asymmetry(mdp.jacobian(method, logits, gamma)).numpy()
    error = None
    if method.is_gradient:
        logits = logits.detach().requires_grad_()
        gradient = th.autograd.grad(mdp.stated_loss(method, logits, gamma).sum(), logits)[0]
        difference = mdp.expected_update(method, logits, gamma) - gradient
        error = (difference.norm(dim=(-2, -1)) / gradient.norm(dim=(-2, -1))).numpy()
    return FieldCheck(method, form, gamma, found, error)


def check_fields(n: int = 100, seed: int = 0) -> list[FieldCheck]:
    """
    :param n: random MDPs
    :param seed: of the first
    :return: every row, in both forms and for both γ
    """
    mdp, logits = random_mdps(n, seed)
    forms: dict[Method, str] = {}
    for form in ("paper", "unbiased"):
        for method in METHODS[form].values():
            forms[method] = "both" if method in forms else form
    with unvalidated():
        todo = [(row, form, gamma) for gamma in GAMMAS for row, form in forms.items()]
        # Nobody needs a progress bar for less than three seconds.
        return [check_field(mdp, logits, *one) for one in tqdm(todo, desc="rows", delay=3, leave=False)]


class OscillationCheck(NamedTuple):
    """What the two rows do in the oscillation.

    :param turns: on-policy distill's full turns
    :param furthest: its distance from the start after any of them, as a share of the radius
    :param drift: the change of what should be constant along it, relative
    :param steepest: the largest change of N-distill's loss from one point to the next; below 0 if it only falls
    :param distance: of N-distill's policy from its limit, in probability, at the end
    """

    turns: int
    furthest: float
    drift: float
    steepest: float
    distance: float

    @property
    def circles(self) -> bool:
        """Whether on-policy distill's orbit closes, often enough and without decay."""
        return self.turns >= TURNS and self.furthest < RETURN and self.drift < DRIFT

    @property
    def converges(self) -> bool:
        """Whether N-distill's loss falls all the way to its limit."""
        return self.steepest < 0 and self.distance < DISTANCE


def check_oscillation(start: np.ndarray = START) -> OscillationCheck:
    """
    :param start: θ, shape (2,), other than the centre of the orbits
    :return: how both rows fare from there
    """
    circle = orbit("on_policy_distill", start, 600.0)
    level = invariant(circle.theta)
    descent = orbit("n_distill", start, DURATION, step=0.25)
    away = returns(circle)
    return OscillationCheck(
        len(away),
        float(away.max(initial=0.0)),
        float(np.abs(level / level[0] - 1).max()),
        float(np.diff(descent.loss).max()),
        float(np.abs(descent.policy[-1] - LIMIT).max()),
    )


def fields_table(checks: list[FieldCheck]) -> Table:
    """
    :param checks: of rows
    :return: one line for each row and form
    """
    n = len(checks[0].asymmetry)
    table = Table(title=f"The expected update g of every row, the worst of {n} random MDPs")
    table.add_column("row")
    table.add_column("form")
    table.add_column("gradient of")
    for gamma in GAMMAS:
        table.add_column(f"‖J − Jᵀ‖ / ‖J‖\nγ = {gamma:g}", justify="right")
        table.add_column(f"‖g − ∇L‖ / ‖∇L‖\nγ = {gamma:g}", justify="right")
    table.add_column("as stated")
    half = len(checks) // len(GAMMAS)
    for pair in zip(checks[:half], checks[half:], strict=True):
        method = pair[0].method
        cells = []
        for check in pair:
            cells += [
                f"{check.worst:.1e}" if method.is_gradient else f"≥ {check.worst:.2f}",
                "—" if check.error is None else f"{check.error.max():.1e}",
            ]
        table.add_row(method.name, pair[0].form, method.descends, *cells, _verdict(all(c.holds for c in pair)))
    return table


def oscillation_table(check: OscillationCheck) -> Table:
    """
    :param check: of both rows
    :return: what each does
    """
    table = Table(title="The oscillation, integrated exactly")
    table.add_column("row")
    table.add_column("what it does")
    table.add_column("as stated")
    x, y = 1 / (1 + np.exp(-CENTRE))
    circles = (
        f"{check.turns} turns around x = {x:.1f}, y = {y:.1f}; after each it is within {check.furthest:.4%} of its start "
        f"(the constant of motion changes by {check.drift:.0e})"
    )
    falls = "falls at every step" if check.steepest < 0 else f"rises by up to {check.steepest:.1e}"
    converges = f"the loss {falls}; the policy ends {check.distance:.1e} from x = {LIMIT[0]:g}, y = {LIMIT[1]:g}"
    table.add_row("on_policy_distill", circles, _verdict(check.circles))
    table.add_row("n_distill", converges, _verdict(check.converges))
    return table


def _verdict(holds: bool) -> str:
    return "[green]yes[/]" if holds else "[red]no[/]"


def main(argv: list[str] | None = None) -> None:
    """:param argv: arguments, by default the command line's"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100, help="how many random MDPs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first of them (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.n < 1:
        parser.error("--n is at least 1")
    console = Console(width=150)
    checks = check_fields(args.n, args.seed)
    console.print(fields_table(checks))
    oscillation = check_oscillation()
    console.print(oscillation_table(oscillation))
    if not (oscillation.circles and oscillation.converges and all(check.holds for check in checks)):
        raise SystemExit("A theorem does not hold.")


if __name__ == "__main__":
    main()
