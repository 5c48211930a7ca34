"""Termination bias: the default form of every row reaches the teacher where episodes end in failure and in success.

Exactly, by descending expected updates on two small MDPs, and with SB3's machinery and the classes' own defaults.
"""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env

from envs_for_tests import Chain
from mdp import MDP
from sb3_distill import DistillPPO, load_teacher
from sb3_distill.evaluation.episodes import episode_returns
from sb3_distill.rules.methods import METHODS
from sb3_distill.teachers.teacher import Answer, Teacher

ROWS = list(METHODS["unbiased"])
LEFT, RIGHT = 0, 1


def goal_chain():
    """Five cells and a goal beyond the last: −1 a step. The teacher walks right with probability 0.95."""
    transition = th.zeros(5, 2, 5, dtype=th.float64)
    for cell in range(5):
        transition[cell, LEFT, max(cell - 1, 0)] = 1.0
        if cell < 4:
            transition[cell, RIGHT, cell + 1] = 1.0
    teacher = th.tensor([[0.05, 0.95]] * 5, dtype=th.float64).log()
    start = th.eye(5, dtype=th.float64)[0]
    return MDP(transition, -th.ones(5, 2, dtype=th.float64), start, teacher)


def cliff():
    """Two states to stay alive in, +1 a step. LEFT falls; RIGHT goes on, and ends by chance once in 50 steps."""
    transition = th.zeros(2, 2, 2, dtype=th.float64)
    transition[0, RIGHT, 1] = transition[1, RIGHT, 0] = 0.98
    teacher = th.tensor([[0.05, 0.95], [0.1, 0.9]], dtype=th.float64).log()
    return MDP(transition, th.ones(2, 2, dtype=th.float64), th.tensor([0.5, 0.5], dtype=th.float64), teacher)


def length(mdp, logits):
    """Expected steps of an episode."""
    return float(mdp.visits(logits.softmax(-1), 1.0).sum())


def descend(mdp, method, gamma, steps=3_000, rate=0.5):
    """Where exact updates from a uniform student, scaled to a bounded length, come to: within half a percent of their limit."""
    logits = th.zeros(mdp.n_states, mdp.n_actions, dtype=th.float64)
    for _ in range(steps):
        update = mdp.expected_update(method, logits, gamma)
        if update.norm() < 1e-3:
            break
        logits = logits - rate * update / update.norm().clamp(min=1.0)
    return logits


@pytest.mark.parametrize("gamma", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", ROWS)
def test_the_default_form_neither_lingers_nor_falls(name, gamma):
    """Exactly: as quick to the goal as the teacher, and as long alive, for the discounts that are in use."""
    row = METHODS["unbiased"][name]
    for mdp, better in ((goal_chain(), -1), (cliff(), 1)):
        teacher, student = length(mdp, mdp.teacher_logits), length(mdp, descend(mdp, row, gamma))
        assert better * student >= better * teacher - 0.02 * teacher


@pytest.mark.parametrize("name", ["n_distill", "expected_entropy", "entropy_regularised"])
def test_the_papers_form_falls(name):
    """Why it is not the default: descending it exactly ends the cliff's episodes much sooner than the teacher does."""
    mdp = cliff()
    student = length(mdp, descend(mdp, METHODS["paper"][name], 0.99))
    assert student < 0.5 * length(mdp, mdp.teacher_logits)


class ChainTeacher(Teacher):
    """The goal chain's teacher, for its Gymnasium form with one-hot observations."""

    observation_space = property(lambda self: spaces.Box(0.0, 1.0, (5,), np.float32))
    action_space = property(lambda self: spaces.Discrete(2))

    def __init__(self):
        self.name, self.mdp = "chain", goal_chain()
        self.values = self.mdp.teacher_value(0.99).float()

    def prepare(self, obs):
        return th.as_tensor(obs).argmax(-1)

    def _answer(self, cells, with_value):
        return Answer(self.mdp.teacher_logits[cells].float(), self.values[cells] if with_value else None)


def play(student, env_id, n=20):
    return episode_returns(lambda obs: student.predict(obs, deterministic=True)[0], env_id, n).mean()


@pytest.mark.parametrize("name", ROWS)
def test_a_student_of_the_chain_walks_to_the_goal(name):
    """With SB3's machinery and default settings: five steps, the least there are, in 4,096 steps."""
    env = make_vec_env(Chain, 8, seed=0)
    student = DistillPPO("MlpPolicy", env, teacher=ChainTeacher(), method=name, seed=0, device="cpu").learn(4_096)
    assert play(student, "SB3DistillChain-v0") == -5.0


@pytest.mark.parametrize(
    ("name", "steps"),
    [("on_policy_distill", 8_192), ("n_distill", 8_192), ("expected_entropy", 16_384)],
)
def test_a_student_of_cartpole_does_not_fall(name, steps):
    """With SB3's machinery and default settings, from the bundled teacher."""
    teacher = load_teacher("zoo:dqn/CartPole-v1", temperature=0.01)
    student = DistillPPO(
        "MlpPolicy", make_vec_env("CartPole-v1", 8, seed=0), teacher=teacher, method=name, seed=0, device="cpu"
    )
    assert play(student.learn(steps), "CartPole-v1") >= 0.97 * 500
