"""What would be broadcast in silence is an error: in losses of every kind of action, in rewards, and in the losses of a memory."""

from functools import partial

import pytest
import torch as th
from gymnasium import spaces

from envs_for_tests import ACTION_SPACES
from sb3_distill.rules import losses, offline_losses, rewards
from sb3_distill.rules.distributions import from_parameters, parameter_size
from sb3_distill.rules.rewards import Transitions

N = 4
ONES = th.ones(N)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.kl, losses.reverse_cross_entropy, losses.reverse_kl])
@pytest.mark.parametrize("action_space", ACTION_SPACES.values(), ids=str)
def test_a_loss_of_one_state_beside_many(loss, action_space):
    columns = parameter_size(action_space)
    one, many = (from_parameters(action_space, th.zeros(n, columns)) for n in (1, N))
    assert loss(many, many).shape == (N,)
    with pytest.raises(ValueError, match=r"^Shapes have to be equal, as PyTorch would broadcast them: p \(.*, q \("):
        loss(one, many)


@pytest.mark.parametrize("loss", [partial(offline_losses.kl, temperature=1.0), offline_losses.nll, offline_losses.mse])
def test_the_losses_of_a_memory(loss):
    assert loss(th.zeros(N, 3), th.zeros(N, 3)).shape == (N,)
    with pytest.raises(ValueError, match=r"teacher_q \(4, 1\), student_q \(4, 3\)\.$"):
        loss(th.zeros(N, 1), th.zeros(N, 3))


def step(**changes):
    categorical = from_parameters(spaces.Discrete(3), th.zeros(N, 3))
    values = dict(teacher_value_t=ONES, student_value_t=ONES, teacher_value_tp1=ONES)
    distributions = dict(teacher_t=categorical, student_t=categorical, teacher_tp1=categorical, student_tp1=categorical)
    known = dict(action_t=th.zeros(N, dtype=th.long), reward_t=ONES, continues_t=ONES, gamma=0.9)
    return Transitions(**(known | distributions | values | changes))


@pytest.mark.parametrize(
    ("reward", "name"),
    [
        (rewards.next_loss, "continues_t"),
        (rewards.teacher_value, "teacher_value_t"),
        (rewards.teacher_value, "teacher_value_tp1"),
        (rewards.teacher_value, "reward_t"),
        (rewards.teacher_value_student_baseline, "student_value_t"),
        (rewards.teacher_value_student_baseline, "continues_t"),
    ],
)
def test_a_reward_of_a_column_beside_a_row(reward, name):
    assert reward(step(), losses.kl).shape == (N,)
    with pytest.raises(ValueError, match=r"^Shapes have to be equal, .*\(4, 1\)"):
        reward(step(**{name: ONES[:, None]}), losses.kl)
