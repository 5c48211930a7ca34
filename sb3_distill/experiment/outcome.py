"""What a run has found: teacher, student and random play in the same episodes, and how alike teacher and student act."""

import platform
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.common.phases import phase
from sb3_distill.evaluation import scores
from sb3_distill.evaluation.episodes import EVALUATION_SEED, greedy, play_episodes, random_play
from sb3_distill.evaluation.scores import Player
from sb3_distill.experiment.advice import advice
from sb3_distill.experiment.comparison import Likeness, likeness, share_of_teacher
from sb3_distill.experiment.plan import Plan
from sb3_distill.experiment.run_folder import FINGERPRINTS
from sb3_distill.experiment.settings import Settings
from sb3_distill.experiment.telling import comparison_data, comparison_lines
from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.teacher import Teacher, actor_size

if TYPE_CHECKING:
    from sb3_distill.algorithms.distillation import Distillation
    from sb3_distill.algorithms.policy_distillation import PolicyDistillation

#: an episode of the comparison is cut then, if the environment has no longer time limit of its own
MAX_EPISODE_STEPS = 10_000
#: on which student and teacher are compared
COMPARED_STATES = 2_000
#: whose versions results depend on
PACKAGES = ("sb3-distill", "stable-baselines3", "sb3-contrib", "gymnasium", "torch", "numpy")


class Outcome(NamedTuple):
    """What came of an experiment.

    :param data: as ``results.json`` has it
    :param players: teacher, student and random play
    :param lines: how far the student has come, in words
    """

    data: dict[str, Any]
    players: list[Player]
    lines: list[str]


def compare(
    plan: Plan,
    teacher: Teacher,
    student: "Distillation | PolicyDistillation | OnPolicyAlgorithm",
    training_seconds: float,
    curve_means: list[float],
    quiet: bool = False,
    steps_before: int = 0,
) -> Outcome:
    """
    Play a trained student, its teacher and random play in the same episodes.

    :param plan: of the experiment
    :param teacher: of the student
    :param student: trained
    :param training_seconds: that it took, for the table
    :param curve_means: mean returns of the points of its learning curve
    :param quiet: whether nothing is said about phases
    :param steps_before: of its training, that it does not count itself
    :return: what came of it
    """
    settings = plan.settings
    players = _play(plan, teacher, student, training_seconds, quiet, steps_before)
    share = share_of_teacher(*(player.returns for player in players))
    with phase("teacher and student on the student's states", quiet):
        alike = _likeness(plan, teacher, student)
    temperature = teacher.temperature if isinstance(teacher, QTeacher) and not settings.offline else None
    next_try = advice(share, alike, plan.described, temperature, curve_means)
    data = {
        # These can be typed, the fingerprints cannot.
        "settings": {name: value for name, value in plan.described.items() if name not in FINGERPRINTS},
        "fingerprints": {name: value for name, value in plan.described.items() if name in FINGERPRINTS},
        "environment": plan.environment,
        "teacher": about_teacher(teacher, settings),
        "players": scores.result_data(players),
        "comparison": comparison_data(share, alike, next_try),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }
    return Outcome(data, players, comparison_lines(share, alike, next_try))


def _play(
    plan: Plan,
    teacher: Teacher,
    student: "Distillation | PolicyDistillation | OnPolicyAlgorithm",
    training_seconds: float,
    quiet: bool,
    before: int,
) -> list[Player]:
    """Teacher, student and random play, each in the episodes of the comparison."""
    n, limit = plan.settings.eval_episodes, episode_limit(plan.settings.env_id)
    teachers = plan.make_teacher_env  # which draws no pictures

    def play(name: str, act: Any, make: Callable[[int], VecEnv], *about: Any) -> Player:
        with phase(f"{n} episodes of {name}", quiet):
            episodes = play_episodes(act, make, n, EVALUATION_SEED, limit)
        return Player(name, episodes.returns, *about)._replace(n_cut=episodes.n_cut)

    steps = None if plan.settings.memory else before + student.num_timesteps  # those of a memory were taken before
    return [
        play("teacher", teacher, teachers, teacher.n_parameters or None),
        play("student", greedy(student.predict), plan.make_env, actor_size(student.policy), steps, training_seconds),
        play("random play", random_play(student.action_space, n), teachers),
    ]


def _likeness(
    plan: Plan, teacher: Teacher, student: "Distillation | PolicyDistillation | OnPolicyAlgorithm"
) -> Likeness:
    """How alike the two act, or nothing of it where the environment fails."""
    env = plan.make_env(teacher.n_envs or min(8, plan.settings.eval_episodes))
    try:
        env.seed(EVALUATION_SEED)
        return likeness(student, teacher, env, COMPARED_STATES, plan.teacher_obs)
    except Exception as error:
        # Whatever an environment does not like: the student is trained, and this alone is missing.
        warnings.warn(f"How alike teacher and student act could not be measured: {type(error).__name__}: {error}")
        return Likeness(0, None, None, None)
    finally:
        env.close()


def about_teacher(teacher: Teacher, settings: Settings) -> dict[str, Any]:
    """
    :param teacher: loaded
    :param settings: of the experiment
    :return: its name and size and, of a Q-network, how its policy is made, if the method learns from that
    """
    about: dict[str, Any] = {"name": teacher.name, "parameters": teacher.n_parameters}
    if teacher.noise:
        about["noise"] = teacher.noise
    if isinstance(teacher, QTeacher) and not settings.offline:
        about |= {
            "temperature": teacher.temperature,
            "temperature_report": teacher.temperature_report,
            "epsilon": teacher.epsilon,
        }
    return about


def episode_limit(env_id: str) -> int:
    """
    :param env_id: a Gymnasium id
    :return: after how many steps an episode is cut
    """
    spec = gym.registry.get(env_id)
    return max(MAX_EPISODE_STEPS, getattr(spec, "max_episode_steps", None) or 0)
