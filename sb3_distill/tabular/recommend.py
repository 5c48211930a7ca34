"""The paper's figure 1 as a function: from four answers to a row of the table, the reason, and code.

The paper asks whether a convergence guarantee is wanted, whether improvement is preferred over speed and whether the teacher
is strong; whether it has a value function decides what can be had. The reasons give what figures 4, 5 and 6 found here.
"""

from collections.abc import Mapping
from typing import NamedTuple

#: environment steps of a run, the command line's own
USUAL_STEPS = 16_384
#: of rows that need more, as docs/choosing.md has them
STEPS = {"expected_entropy": 32_768, "entropy_regularised": 150_000, "teacher_v_reward": 150_000}


class Advice(NamedTuple):
    """
    What to do.

    :param method: a row's name
    :param env_reward_coef: weight of the environment's reward
    :param reason: in words
    """

    method: str
    env_reward_coef: float
    reason: str

    @property
    def title(self) -> str:
        """The row, for people."""
        return self.method + (" + R, the environment's reward" if self.env_reward_coef else "")

    @property
    def steps(self) -> int:
        """With which the row is measured in the documentation."""
        return STEPS.get(self.method, USUAL_STEPS)

    @property
    def goes_on(self) -> bool:
        """Whether the student is to pass its teacher."""
        return self.env_reward_coef > 0 or self.method == "teacher_v_reward"

    @property
    def code(self) -> str:
        """A program that does it, and the same as a command."""
        plus = f", env_reward_coef={self.env_reward_coef}" if self.env_reward_coef else ""
        option = f" --env-reward-coef {self.env_reward_coef}" if self.env_reward_coef else ""
        then = (
            '\nstudent.then_rl(50_000).save("better")  # on without the teacher, as a plain PPO' if self.goes_on else ""
        )
        steps = "" if self.steps == USUAL_STEPS else f" --steps {self.steps}"
        return f"""\
from stable_baselines3.common.env_util import make_vec_env
from sb3_distill import DistillPPO, load_teacher

teacher = load_teacher("zoo:dqn/CartPole-v1")  # yours: a path, "hub:…", or a loaded SB3 model
env = make_vec_env("CartPole-v1", n_envs=8, seed=0)
student = DistillPPO("MlpPolicy", env, teacher=teacher, method="{self.method}"{plus}, seed=0)
student.learn({self.steps:_})
student.save("student"){then}

# or: sb3-distill distill --env CartPole-v1 --method {self.method.replace("_", "-")}{option}{steps}"""


def missing(answers: Mapping[str, bool | None]) -> list[str]:
    """
    :param answers: to ``strong``, ``improve``, ``guarantee`` and ``value``; None where there is none
    :return: the questions that still matter, in the order in which they are asked
    """
    if answers.get("strong") is None:
        return [name for name in ("strong", "improve", "value", "guarantee") if answers.get(name) is None]
    # Speed towards a weak teacher is no use: improvement goes without saying.
    if answers["strong"] and answers.get("improve") is None:
        names = ["improve", "value", "guarantee"]
    elif answers["strong"] and not answers["improve"]:
        names = ["guarantee"]
    elif answers.get("value"):
        names = []
    else:
        names = ["value", "guarantee"]
    return [name for name in names if answers.get(name) is None]


def recommendation(answers: Mapping[str, bool | None]) -> Advice:
    """
    :param answers: to ``strong``, ``improve``, ``guarantee`` and ``value``, all that matter
    :return: what to do
    """
    if answers["strong"] and not answers["improve"]:
        if answers["guarantee"]:
            return Advice(
                "expected_entropy",
                0.0,
                "Its update is the gradient of E Σ KL(π_θ‖π), so it converges where on-policy distill may circle (figure 2), "
                "and its gradient is taken over all actions, so many of them do not hurt (figure 4). n_distill has the same "
                "guarantee, and imitates all that the teacher does instead of what it does most.",
            )
        return Advice(
            "on_policy_distill",
            0.0,
            "The student acts and imitates: nothing to estimate, so it learns in the fewest steps of all rows that cannot be "
            "upset by noise, and in a fraction of those that teacher control needs (figure 3). It has no guarantee: its "
            "update is no gradient.",
        )
    if answers["value"]:
        return Advice(
            "teacher_v_reward",
            0.0,
            "Its update is the gradient of the environment's return, judged step by step by the teacher's values: it passes "
            "an imperfect teacher farthest (figure 5), if not at once, and recovers from an adversarial one (figure 6).",
        )
    if answers["guarantee"]:
        return Advice(
            "n_distill",
            1.0,
            "Its update, with the environment's reward, is the gradient of weights times E Σ KL(π‖π_θ) − return, and the weights of the "
            "teacher fall to 0 in the course of the run: with constant ones, loss_coef=1 and reward_coef=0.03, the student ends between "
            "the teacher and the best. Beware of a teacher that is wrong everywhere (figure 6).",
        )
    return Advice(
        "on_policy_distill",
        1.0,
        "Imitation starts the student off, the environment's reward takes it past the teacher (figure 5), whose pull falls to 0 in "
        "the course of the run: this is kickstarting. It has no guarantee.",
    )
