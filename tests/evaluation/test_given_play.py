"""What may play and be played in: models, environments that were made; and what is said of all that cannot."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

from envs_for_tests import CountdownEnv
from sb3_distill.evaluation.episodes import episode_returns, play_episodes
from sb3_distill.evaluation.given import checked


@pytest.fixture(scope="module")
def model():
    return PPO("MlpPolicy", "CartPole-v1", policy_kwargs=dict(net_arch=[8]), seed=0, device="cpu")


def test_a_model_plays_as_its_predict_does(model):
    right = episode_returns(lambda obs: model.predict(obs, deterministic=True)[0], "CartPole-v1", 5, seed=3)
    for act in (model, model.policy, lambda obs: model.predict(obs, deterministic=True)):
        np.testing.assert_array_equal(episode_returns(act, "CartPole-v1", 5, seed=3), right)
    assert len(episode_returns(model.predict, "CartPole-v1", 2)) == 2  # drawn, as predict does


@pytest.mark.parametrize("n_envs", [1, 2, 7])
def test_an_environment_that_was_made_gives_the_same_episodes_in_turns(n_envs, model):
    """The same seeds; what is begun beyond the last episode that is wanted does not count."""
    right = play_episodes(model, "CartPole-v1", 5, seed=3)
    env = make_vec_env("CartPole-v1", n_envs) if n_envs > 1 else gym.make("CartPole-v1")
    found = play_episodes(model, env, 5, seed=3)
    np.testing.assert_array_equal(found.returns, right.returns)
    assert found.n_cut == 0
    env.reset()  # it is open still
    assert play_episodes(model, env, 5, max_steps=3).n_cut == 5


def test_who_remembers_is_told_where_an_episode_begins():
    env = DummyVecEnv([lambda: CountdownEnv(spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(3))] * 2)
    model = RecurrentPPO("MlpLstmPolicy", env, policy_kwargs=dict(lstm_hidden_size=4), device="cpu")
    heard = []

    def predict(obs, state=None, episode_start=None, deterministic=False):
        heard.append((state is not None, episode_start))
        return type(model).predict(model, obs, state, episode_start, deterministic)

    model.predict = predict
    play_episodes(model, env, 4, max_steps=3)  # two at a time
    assert [remembered for remembered, _ in heard] == 2 * [False, True, True]
    assert not heard[1][1].all()


@pytest.mark.parametrize("actions", [[1, 0], np.array([[1], [0]]), np.array([1.0, 0.0]), (np.array([1, 0]), None)])
def test_actions_of_a_like_kind_are_served(actions):
    found = checked(actions, spaces.Discrete(2), 2)
    assert found.tolist() == [1, 0] and found.dtype == np.int64


BAD = [
    (dict(act=lambda o: 0), r"2 observations with actions of shape \(\): .* have the shape \(2,\)"),
    (dict(act=lambda o: [0]), r"actions of shape \(1,\)"),
    (dict(act=lambda o: [0.5, 0]), r"observation 1 of 2 with 0\.5, and the actions of Discrete\(2\) are whole"),
    (dict(act=lambda o: [0, 2]), r"observation 2 of 2 with 2"),
    (dict(act=lambda o: ["a", "b"]), r"which are no numbers: \['a', 'b'\]"),
    (dict(act=lambda o: None), r"which are no numbers: None"),
    (dict(act=None), r"act must be a function .* or a model with a predict, not NoneType None"),
    (dict(act=PPO), r"act must be a function"),
    (dict(n_episodes=0), r"n_episodes must be a whole number of at least 1, not 0"),
    (dict(n_episodes=2.5), r"n_episodes must be"),
    (dict(seed=-1), r"seed must be a whole number of at least 0, not -1"),
    (dict(max_steps=0), r"max_steps must be"),
    (dict(env="CartPol-v1"), r"Unknown environment 'CartPol-v1'"),
    (dict(env=3), r"env=int 3 cannot be made"),
    (
        dict(env="Pendulum-v1", act=lambda o: np.full((2, 1), np.nan)),
        r"observation 1 of 2 with \[nan\], which is no num",
    ),
]


@pytest.mark.parametrize("given, message", BAD, ids=[str(i) for i in range(len(BAD))])
def test_what_cannot_be_played_is_one_line(given, message):
    with pytest.raises(ValueError, match=message) as caught:
        episode_returns(**(dict(act=lambda o: np.zeros(2, int), env="CartPole-v1", n_episodes=2) | given))
    assert "\n" not in str(caught.value)
