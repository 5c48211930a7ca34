"""MuJoCo's environments under their present names: what agents of the former ones saw is seen again, number for number."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_distill.agents.find import resolve_env_id
from sb3_distill.common import mujoco
from sb3_distill.common.env_ids import check_env_id
from sb3_distill.common.mujoco import FORMER, FormerObservations, VecFormerObservations
from sb3_distill.common.spaces import check_spaces

pytestmark = pytest.mark.filterwarnings("ignore:.*out of date")

#: whose -v4 Gymnasium still makes with the same physics; Walker2d-v5 has another foot, and Pusher-v4 wants MuJoCo 2
SAME_PHYSICS = sorted(set(FORMER) - {"Walker2d", "Pusher"})


@pytest.mark.parametrize("name", SAME_PHYSICS)
def test_the_former_observations_are_those_of_v4(name):
    """Side by side with Gymnasium's own -v4, which is another implementation, over ends of episodes."""
    past = gym.make(f"{name}-v4", **({"use_contact_forces": True} if name == "Ant" else {}))
    present = FormerObservations(gym.make(f"{name}-v5"), f"{name}-v3")
    assert present.observation_space.shape == past.observation_space.shape
    assert present.action_space == past.action_space
    past.action_space.seed(0)
    (expected, _), (obs, _) = past.reset(seed=1), present.reset(seed=1)
    for _ in range(60):
        assert obs.dtype == expected.dtype
        np.testing.assert_array_equal(obs, expected)
        action = past.action_space.sample()
        expected, _, over, _, _ = past.step(action)
        obs, _, over_too, _, _ = present.step(action)
        assert over == over_too
        if over:
            (expected, _), (obs, _) = past.reset(seed=2), present.reset(seed=2)


@pytest.mark.parametrize("name", ["Walker2d", "Pusher"])
def test_other_physics_have_the_same_observations(name):
    assert gym.make(f"{name}-v5").observation_space.shape == (FORMER[name].size,)
    assert "same observations; but" in mujoco.differences(f"{name}-v2")


def test_many_environments_and_the_last_observation():
    """A vector of environments has what single ones have, in terminal observations too; and what is beneath stays as it is."""
    single = FormerObservations(gym.make("Humanoid-v5"), "Humanoid-v2")
    beneath = DummyVecEnv([lambda: gym.make("Humanoid-v5")] * 2)
    env = VecFormerObservations(beneath, "Humanoid-v2")
    assert env.observation_space == single.observation_space
    env.seed(5)
    first, alone = env.reset(), single.reset(seed=5)[0]
    np.testing.assert_array_equal(first[0], alone.astype(first.dtype))
    action, done = np.full((2, 17), 0.4, np.float32), np.zeros(2, bool)
    while not done[0]:
        obs, _, done, infos = env.step(action)
        alone, *_ = single.step(action[0])
    assert infos[0]["terminal_observation"].shape == obs[0].shape == (376,)
    np.testing.assert_allclose(infos[0]["terminal_observation"], alone, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(FORMER))
@pytest.mark.parametrize("version", [2, 3])
def test_former_ids_are_followed_with_a_warning(name, version):
    with pytest.warns(UserWarning, match=rf"Environment {name}-v{version} is now {name}-v5: .* It has "):
        assert resolve_env_id(f"{name}-v{version}") == f"{name}-v5"


@pytest.mark.parametrize(
    "env_id", ["Hopper-v4", "Hopper-v5", "Humanoid-v4", "HopperBulletEnv-v0", "Hopper", "Hopper-v9"]
)
def test_what_can_be_made_or_is_not_mujocos_stays(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if env_id in gym.registry:
            assert resolve_env_id(env_id) == env_id
        assert mujoco.present_name(env_id) is None


def test_another_packages_environment_of_that_name_is_its_own(monkeypatch):
    """As gymnasium-robotics registers the former ones."""
    monkeypatch.setitem(gym.registry, "Hopper-v3", EnvSpec("Hopper-v3", entry_point="gymnasium_robotics.envs:Hopper"))
    assert resolve_env_id("Hopper-v3") == "Hopper-v3"
    check_env_id("Hopper-v3")


def test_an_id_that_cannot_be_made_names_the_one_that_can():
    with pytest.raises(
        ValueError, match=r"cannot make Humanoid-v3 any more: take 'Humanoid-v5'.* of which 28 are always 0"
    ):
        check_env_id("Humanoid-v3")
    with pytest.raises(ValueError, match=r"'Hopper-v5'\. It has the same observations; but a step in which it falls"):
        check_env_id("Hopper-v2")


def test_observations_that_differ_are_told(monkeypatch):
    """A Humanoid's teacher from before, and Ant's without contacts: what is missing, and what to write."""
    past, present = gym.make("Humanoid-v4"), gym.make("Humanoid-v5")
    spaces = (past.observation_space, past.action_space, present.observation_space, present.action_space)
    with pytest.raises(ValueError, match=r"28 more numbers, .* VecFormerObservations\(venv, 'Humanoid-v3'\)"):
        check_spaces("it", *spaces, lambda: ("Humanoid-v3", "Humanoid-v5"))
    with pytest.raises(ValueError, match=r"VecFormerObservations\(venv, 'Humanoid-v4'\)"):
        check_spaces("it", *spaces, lambda: (None, "Humanoid-v5"))
    past, present = gym.make("Ant-v4"), gym.make("Ant-v5")
    with pytest.raises(ValueError, match=r"make\('Ant-v5', include_cfrc_ext_in_observation=False\)"):
        check_spaces(
            "it",
            *(past.observation_space, past.action_space, present.observation_space, present.action_space),
            lambda: ("Ant-v4", "Ant-v5"),
        )


def test_an_environment_that_shows_something_else_is_refused():
    env = gym.make("Ant-v5", include_cfrc_ext_in_observation=False)
    with pytest.raises(ValueError, match=r"Ant-v3 cannot be made .* its -v5 has 105 observations\. If arguments"):
        FormerObservations(env, "Ant-v3")
    with pytest.raises(ValueError, match=r"-v2 to -v4, not 'CartPole-v1'"):
        FormerObservations(gym.make("CartPole-v1"), "CartPole-v1")
