"""Temperatures that were looked for before: what the search finds, for these weights in this environment and for no others."""

import json
import warnings
from functools import partial

import gymnasium as gym
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from sb3_distill import load_teacher
from sb3_distill.agents import tuned_teacher
from sb3_distill.agents.find import BUNDLED
from sb3_distill.agents.known_temperatures import FILE, key_of, known_choice
from sb3_distill.agents.load import EPISODES
from sb3_distill.agents.tuned_teacher import load_teacher_for
from sb3_distill.teachers.tuning import tune_temperature

AGENTS = sorted(path.name for path in (BUNDLED / "dqn").iterdir() if path.is_dir())


def untuned(source):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_teacher(source, tune=False, device="cpu")


@pytest.mark.parametrize("name", AGENTS)
def test_each_bundled_agent_loads_without_playing(name, monkeypatch):
    """Its entry is of the weights that are bundled now; what it says is what users get."""
    monkeypatch.setattr(gym, "make", lambda *args, **kwargs: pytest.fail("an environment was made"))
    teacher = load_teacher(BUNDLED / "dqn" / name, device="cpu")
    known = json.loads(FILE.read_text(encoding="utf-8"))[key_of(teacher)[0]]
    assert (teacher.temperature, teacher.temperature_report) == (known["temperature"], known["report"])
    assert known["report"].startswith(f"auto: actions drawn at temperature {known['temperature']:.3g} return ")


def assert_found_again(source):
    teacher = untuned(source)
    known = known_choice(teacher)
    tune_temperature(teacher, EPISODES, seconds=300.0)
    assert known.temperature == pytest.approx(teacher.temperature, rel=1e-6) and known.doubt is None
    assert known.report == teacher.temperature_report


def test_what_is_known_is_what_a_search_finds():
    assert_found_again("zoo:dqn/CartPole-v1")


@pytest.mark.zoo
@pytest.mark.parametrize("agent", ["dqn/Acrobot-v1_1", "dqn/MountainCar-v0_1", "qrdqn/MountainCar-v0_1"])
def test_so_it_is_of_the_published_agents(agent, zoo):
    assert_found_again(zoo / agent)


def test_a_command_takes_it_where_its_environments_are_as_registered(monkeypatch):
    """A search has ten seconds, so that what it finds would depend on what else the machine does."""
    played = []
    monkeypatch.setattr(tuned_teacher, "tune_temperature", lambda *_: played.append("played"))
    make_env = partial(make_vec_env, "CartPole-v1")
    load = partial(load_teacher_for, "zoo:dqn/CartPole-v1", "CartPole-v1", make_env, device="cpu")
    teacher = load(as_registered=True)
    assert teacher.temperature == known_choice(untuned("zoo:dqn/CartPole-v1")).temperature and not played
    assert teacher.make_env(2).num_envs == 2
    assert load().temperature is None and played
    stated = load(as_registered=True, temperature=0.5)
    assert stated.temperature == 0.5


def test_other_weights_are_not_known():
    teacher = untuned("zoo:dqn/CartPole-v1")
    assert known_choice(teacher) is not None
    with th.no_grad():
        teacher.policy.q_net.q_net[-1].bias[0] += 1e-3
    assert known_choice(teacher) is None


@pytest.mark.parametrize("change", [{"kwargs": {"sutton_barto_reward": True}}, {"max_episode_steps": 100}])
def test_another_environment_under_the_same_id_is_not_known(change, monkeypatch):
    teacher = untuned("zoo:dqn/CartPole-v1")
    spec = gym.registry["CartPole-v1"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in change.items():
            patch.setattr(spec, name, value)
        assert known_choice(teacher) is None
    teacher.make_env = lambda n: None  # wrappers, frame stacks, arguments
    assert known_choice(teacher) is None
    assert known_choice(untuned_elsewhere()) is None


def untuned_elsewhere():
    return load_teacher("zoo:dqn/CartPole-v1", env_id="CartPole-v0", tune=False, device="cpu")
