"""What is found out by the teacher's Q-values in a memory: τ, or the units that ``"mse"`` learns in."""

import warnings
from typing import NamedTuple

import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_distill.algorithms.q_units import QUnits
from sb3_distill.memory.memory import About, Memory
from sb3_distill.rules.offline_losses import StateLoss, mse, state_loss
from sb3_distill.rules.temperature import ENOUGH_STATES, check_q_values, softest_by_confidence

#: states of the memory, at most, by which τ or the units of ``"mse"`` are found
N_JUDGED = 1_024


class Judgement(NamedTuple):
    """
    :param loss: of a minibatch's states, of answers and the student's outputs
    :param temperature: τ that it uses, None where no τ has a part or none is chosen yet
    :param report: why that one
    :param units: in which Q-values are learnt
    """

    loss: StateLoss
    temperature: float | None
    report: str
    units: QUnits | None = None


def unjudged(loss: str, temperature: float | str, about: About) -> Judgement:
    """
    :param loss: by name
    :param temperature: τ, or ``"auto"``
    :param about: a memory
    :return: a loss, for now, for a teacher whose Q-values have not been seen
    :raises ValueError: if this teacher cannot serve the loss
    """
    given = temperature != "auto"
    function = state_loss(loss, about.kind, about.action_space, float(temperature) if given else 1.0)
    uses_it = loss == "kl" and about.kind == "q_values"
    report = "given" if given else "not chosen yet" if uses_it else "of no use here"
    return Judgement(function, float(temperature) if given and uses_it else None, report)


def is_due(loss: str, temperature: float | str, memory: Memory, n_judged: int) -> bool:
    """
    :param loss: by name
    :param temperature: τ, or ``"auto"``
    :param memory: what is learnt from
    :param n_judged: by how many of its states it was judged before
    :return: whether it is time: by any at first, then with twice as many, until there are enough
    """
    by_q = loss == "mse" or (loss == "kl" and temperature == "auto")
    enough = n_judged >= ENOUGH_STATES or len(memory) < max(1, 2 * n_judged)
    return memory.about.kind == "q_values" and by_q and not enough


def judged(loss: str, temperature: float | str, memory: Memory, policy: BasePolicy, fresh: bool) -> Judgement:
    """
    :param loss: by name
    :param temperature: τ, or ``"auto"``
    :param memory: with the teacher's Q-values
    :param policy: the student's
    :param fresh: whether it has not learnt yet
    :return: what is learnt by from now on
    :raises ValueError: for Q-values from which nothing can be learnt
    """
    about, n = memory.about, len(memory)
    q_values = th.from_numpy(next(iter(memory.batches(N_JUDGED, 0))).answers)
    check_q_values(q_values, about.teacher)
    if loss == "mse":
        assert isinstance(policy, DQNPolicy)
        units = QUnits(policy, q_values, fresh=fresh)
        found = unjudged(loss, temperature, about)
        return found._replace(loss=lambda answers, student: mse(units.normalized(answers), student), units=units)
    chosen, report, doubt = softest_by_confidence(q_values)
    if doubt is not None and n >= ENOUGH_STATES:
        warnings.warn(f"The temperature of {about.teacher} is doubtful: {doubt}.", stacklevel=3)
    return Judgement(state_loss("kl", about.kind, about.action_space, chosen), chosen, report)
