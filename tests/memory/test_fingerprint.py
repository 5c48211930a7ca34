"""A memory knows its teacher by weights and statistics, and by its name only where it knows no more."""

import copy

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_distill.agents.normalization import NormalizeStatistics, normalizer
from sb3_distill.memory.check import check_memory
from sb3_distill.memory.memory import About
from sb3_distill.teachers.fingerprint import fingerprint_of
from sb3_distill.teachers.q_network import QTeacher

SPACE = spaces.Box(-1.0, 1.0, (3,), np.float32)
ABOUT = About("Env-v0", "/server/agent.zip", SPACE, spaces.Discrete(2), "q_values")


def teacher(**kwargs):
    th.manual_seed(0)
    return QTeacher(DQNPolicy(SPACE, spaces.Discrete(2), lambda _: 0.0, net_arch=[4]), temperature=1.0, **kwargs)


def statistics(mean=0.0, var=1.0, clip=10.0):
    return normalizer(NormalizeStatistics(np.full(3, mean), np.full(3, var), clip, 1e-8, 1.0))


def test_what_answers_do_not_depend_on_is_not_in_it():
    mine, other = teacher(name="a"), teacher(name="b", env_id="Env-v0")
    other.policy.q_net_target.q_net[0].bias.data += 1
    assert fingerprint_of(mine) == fingerprint_of(other) == fingerprint_of(copy.deepcopy(mine))
    same = [teacher(normalize_obs=statistics()) for _ in range(2)]
    assert fingerprint_of(same[0]) == fingerprint_of(same[1])


def test_what_answers_depend_on_is():
    """A weight in its last bit, its dtype, the statistics of observations, their bound, the factor of the values."""
    changed = teacher()
    weight = changed.policy.q_net.q_net[0].weight.data
    weight[0, 0] = th.nextafter(weight[0, 0], th.tensor(9.0))
    low = teacher()
    low.policy.to(th.bfloat16)
    others = [changed, low, teacher(value_scale=2.0)]
    others += [
        teacher(normalize_obs=s) for s in (statistics(), statistics(mean=1), statistics(var=2), statistics(clip=5))
    ]
    assert len({fingerprint_of(t) for t in [teacher(), *others]}) == 8


def test_names_count_where_there_is_no_more(recwarn):
    known = ABOUT._replace(fingerprint="a" * 64)
    check_memory(known, teacher="other", fingerprint="a" * 64)
    check_memory(ABOUT, teacher="/server/agent.zip", fingerprint="a" * 64)
    assert not recwarn
    with pytest.raises(ValueError, match=r"other.* with the weights bbbbbbbb"):
        check_memory(known, teacher="other", fingerprint="b" * 64)
    with pytest.warns(UserWarning, match=r"/server/agent\.zip.*/laptop/agent\.zip"):
        check_memory(ABOUT, teacher="/laptop/agent.zip", fingerprint="b" * 64)
    with pytest.raises(ValueError, match="another teacher"):
        check_memory(ABOUT, teacher="/server/best.zip", fingerprint="b" * 64)
