"""Checkpoints: the real ones answer as the arithmetic on their weights says, and hostile or broken ones run nothing."""

import base64
import collections
import io
import json
import os
import pickle
import pickletools
import re
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch as th
import yaml
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from envs_for_tests import CountdownEnv
from sb3_distill.agents.checkpoint import read_checkpoint
from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.find import BUNDLED
from sb3_distill.agents.load import load_teacher
from sb3_distill.agents.normalization import read_vecnormalize
from sb3_distill.agents.saved_policy import ACTIVATIONS
from sb3_distill.agents.saved_spaces import read_space
from sb3_distill.agents.training import read_config
from sb3_distill.evaluation.episodes import episode_returns, standard_error

CLASSIC = ["Acrobot-v1", "CartPole-v1", "LunarLander-v2", "MountainCar-v0"]
CONTINUOUS = ["BipedalWalker-v3", "LunarLanderContinuous-v2", "MountainCarContinuous-v0", "Pendulum-v1"]
Q_NETWORKS, ACTOR_CRITICS = ["dqn", "qrdqn"], ["ppo", "a2c", "trpo"]
AGENTS = [f"{algo}/{env_id}" for algo in Q_NETWORKS for env_id in CLASSIC] + [
    f"{algo}/{env_id}" for algo in ACTOR_CRITICS for env_id in CLASSIC + CONTINUOUS
]
NORMALIZED = [
    "a2c/Acrobot-v1",
    "a2c/BipedalWalker-v3",
    "a2c/LunarLanderContinuous-v2",
    "a2c/MountainCar-v0",
    "a2c/MountainCarContinuous-v0",
    "a2c/Pendulum-v1",
    "ppo/Acrobot-v1",
    "ppo/BipedalWalker-v3",
    "ppo/MountainCar-v0",
    "ppo/MountainCarContinuous-v0",
    "trpo/Acrobot-v1",
    "trpo/BipedalWalker-v3",
    "trpo/LunarLanderContinuous-v2",
    "trpo/MountainCar-v0",
    "trpo/MountainCarContinuous-v0",
]


def load(source):
    """A teacher without the episodes that choose a temperature, and without warnings about an environment's version."""
    algo = Path(source).parent.name if Path(source).is_dir() else "dqn"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Environment .* is now")
        return load_teacher(source, device="cpu", **({"temperature": 1.0} if algo in Q_NETWORKS else {}))


# --- the zoo's agents -------------------------------------------------------------------------------------------------


def folder_of(zoo, name):
    return zoo / f"{name}_1"


def weights_of(zoo, name):
    """The numbers in a checkpoint, in double precision, without the code under test."""
    env_id = name.rpartition("/")[2]
    with zipfile.ZipFile(folder_of(zoo, name) / f"{env_id}.zip") as archive:
        weights = th.load(io.BytesIO(archive.read("policy.pth")), weights_only=True, map_location="cpu")
    return {key: value.double().numpy() for key, value in weights.items()}


def linear(x, weights, layer):
    return x @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]


def relu_network(x, weights, prefix):
    for layer in (0, 2):
        x = np.maximum(linear(x, weights, f"{prefix}.{layer}"), 0.0)
    return linear(x, weights, f"{prefix}.4")


def tanh_latent(x, weights, prefix):
    for layer in (0, 2):
        x = np.tanh(linear(x, weights, f"{prefix}.{layer}"))
    return x


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


class StatisticsOnly(pickle.Unpickler):
    """Arrays are real; whatever else a vecnormalize.pkl names is an empty shell that keeps its attributes."""

    REAL = ("_reconstruct", "scalar", "dtype", "ndarray")

    def find_class(self, module, name):
        if module.startswith("numpy") and name in self.REAL:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        return type(name, (), {"__init__": lambda self, *args: None})


def saved_normalization(zoo, name):
    with (folder_of(zoo, name) / name.rpartition("/")[2] / "vecnormalize.pkl").open("rb") as file:
        return StatisticsOnly(file).load()


@pytest.mark.zoo
def test_the_lists_here_are_all_agents_of_the_zoo(zoo):
    """A checkpoint added to the zoo's folder is to be tested too."""
    found = [f.parent for algo in Q_NETWORKS + ACTOR_CRITICS for f in zoo.glob(f"{algo}/*/*.zip")]
    assert sorted(f"{f.parent.name}/{f.name}" for f in found) == sorted(f"{name}_1" for name in AGENTS)
    normalized = [f.parents[1] for algo in ACTOR_CRITICS for f in zoo.glob(f"{algo}/*/*/vecnormalize.pkl")]
    assert sorted(f"{f.parent.name}/{f.name}" for f in normalized) == sorted(f"{name}_1" for name in NORMALIZED)


@pytest.mark.zoo
@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_loads_without_gym(zoo, name, monkeypatch):
    """Agents saved with gym load where there is none, and fit the environment that Gymnasium has today."""
    monkeypatch.setitem(sys.modules, "gym", None)
    teacher = load(folder_of(zoo, name))
    env = gym.make(teacher.env_id)
    assert teacher.env_id.rpartition("-v")[0] == name.rpartition("/")[2].rpartition("-v")[0]
    for mine, theirs in (
        (teacher.observation_space, env.observation_space),
        (teacher.action_space, env.action_space),
    ):
        assert type(mine) is type(theirs)
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
    if isinstance(env.action_space, spaces.Box):
        np.testing.assert_array_equal(teacher.action_space.low, env.action_space.low)
        np.testing.assert_array_equal(teacher.action_space.high, env.action_space.high)
    else:
        assert teacher.action_space == env.action_space
    assert (teacher.normalize_obs is not None) == (name in NORMALIZED)
    env.observation_space.seed(0)
    obs = np.stack([env.observation_space.sample() for _ in range(5)]).clip(-1e3, 1e3)
    assert all(env.action_space.contains(action) for action in teacher.act(obs))
    assert teacher.value(obs).isfinite().all()
    env.close()


@pytest.mark.zoo
def test_the_zoos_pickles_do_need_gym(zoo):
    """Control of the test above: SB3's own way of reading a space would import gym."""
    with zipfile.ZipFile(folder_of(zoo, "dqn/MountainCar-v0") / "MountainCar-v0.zip") as archive:
        data = json.loads(archive.read("data"))
    pickled = base64.b64decode(data["observation_space"][":serialized:"])
    assert any(str(argument).startswith("gym.spaces") for _, argument, _ in pickletools.genops(pickled))


@pytest.mark.zoo
@pytest.mark.parametrize("env_id", CLASSIC)
def test_dqn_answers_as_its_weights_say(zoo, env_id):
    """Q is the online network's output, not the target network's."""
    teacher, weights = load(folder_of(zoo, f"dqn/{env_id}")), weights_of(zoo, f"dqn/{env_id}")
    obs = np.random.default_rng(0).normal(0.0, 0.5, (64, *teacher.observation_space.shape)).astype(np.float32)
    q_values = relu_network(obs.astype(np.float64), weights, "q_net.q_net")
    np.testing.assert_allclose(teacher.q_values(obs).numpy(), q_values, rtol=1e-5, atol=1e-4)
    target = relu_network(obs.astype(np.float64), weights, "q_net_target.q_net")
    assert np.abs(target - q_values).max() > 1e-3, "the two networks must differ for this test to tell them apart"


@pytest.mark.zoo
@pytest.mark.parametrize(("env_id", "n_quantiles"), [("Acrobot-v1", 25), ("CartPole-v1", 10), ("LunarLander-v2", 170)])
def test_qrdqn_is_the_mean_over_quantiles(zoo, env_id, n_quantiles):
    """The network's output is quantiles × actions, flattened in this order."""
    teacher, weights = load(folder_of(zoo, f"qrdqn/{env_id}")), weights_of(zoo, f"qrdqn/{env_id}")
    obs = np.random.default_rng(0).normal(0.0, 0.5, (64, *teacher.observation_space.shape)).astype(np.float32)
    flat = relu_network(obs.astype(np.float64), weights, "quantile_net.quantile_net")
    assert flat.shape == (64, n_quantiles * teacher.action_space.n)
    q_values = np.stack([flat[:, a :: teacher.action_space.n].mean(-1) for a in range(teacher.action_space.n)], axis=1)
    np.testing.assert_allclose(teacher.q_values(obs).numpy(), q_values, rtol=1e-5, atol=1e-4)


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["ppo/CartPole-v1", "a2c/CartPole-v1", "trpo/CartPole-v1", "ppo/LunarLander-v2"])
def test_actor_critics_answer_as_their_weights_say(zoo, name):
    """Actor and critic of agents on plain observations: two tanh layers each, none of them swapped."""
    teacher, weights = load(folder_of(zoo, name)), weights_of(zoo, name)
    obs = np.random.default_rng(0).normal(0.0, 0.5, (64, *teacher.observation_space.shape)).astype(np.float32)
    answer = teacher.answer(obs, with_value=True)
    x = obs.astype(np.float64)
    logits = linear(tanh_latent(x, weights, "mlp_extractor.policy_net"), weights, "action_net")
    np.testing.assert_allclose(answer.parameters.numpy(), log_softmax(logits), rtol=1e-5, atol=1e-4)
    values = linear(tanh_latent(x, weights, "mlp_extractor.value_net"), weights, "value_net")[:, 0]
    np.testing.assert_allclose(answer.value.numpy(), values * teacher.value_scale, rtol=1e-5, atol=1e-4)


@pytest.mark.zoo
@pytest.mark.parametrize(
    "name", ["a2c/BipedalWalker-v3", "ppo/MountainCarContinuous-v0", "a2c/MountainCarContinuous-v0"]
)
def test_gsde_agents_answer_as_their_weights_say(zoo, name):
    """State-dependent noise, normalised observations and rewards: mean, standard deviation and value by hand."""
    teacher, weights = load(folder_of(zoo, name)), weights_of(zoo, name)
    saved = saved_normalization(zoo, name)
    obs = np.random.default_rng(0).normal(0.0, 0.5, (64, *teacher.observation_space.shape)).astype(np.float32)
    x = np.clip(
        (obs - saved.obs_rms.mean) / np.sqrt(saved.obs_rms.var + saved.epsilon), -saved.clip_obs, saved.clip_obs
    )
    latent = tanh_latent(x, weights, "mlp_extractor.policy_net")
    mean = linear(latent, weights, "action_net")
    std = np.sqrt(latent**2 @ np.exp(weights["log_std"]) ** 2 + 1e-6)
    answer = teacher.answer(obs, with_value=True)
    np.testing.assert_allclose(answer.parameters.numpy(), np.hstack([mean, np.log(std)]), rtol=1e-5, atol=1e-5)
    values = linear(tanh_latent(x, weights, "mlp_extractor.value_net"), weights, "value_net")[:, 0]
    values *= np.sqrt(saved.ret_rms.var + saved.epsilon)
    np.testing.assert_allclose(answer.value.numpy(), values, rtol=1e-5, atol=1e-4)


@pytest.mark.zoo
@pytest.mark.parametrize("name", NORMALIZED)
def test_the_zoos_statistics_are_applied_by_sb3s_formula(zoo, name):
    """Normalised observations and the scale of values, from the statistics in the file."""
    teacher, saved = load(folder_of(zoo, name)), saved_normalization(zoo, name)
    # Ten standard deviations are the usual bound: some of these must reach it.
    obs = np.random.default_rng(0).normal(0.0, 30.0, (64, *teacher.observation_space.shape)).astype(np.float32)
    before = obs.copy()
    expected = (obs - saved.obs_rms.mean) / np.sqrt(saved.obs_rms.var + saved.epsilon)
    assert (np.abs(expected) > saved.clip_obs).any()
    expected = np.clip(expected, -saved.clip_obs, saved.clip_obs).astype(np.float32)
    np.testing.assert_array_equal(teacher.normalize_obs(obs), expected)
    np.testing.assert_array_equal(obs, before)
    assert teacher.value_scale == (np.sqrt(saved.ret_rms.var + saved.epsilon) if saved.norm_reward else 1.0)


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("env_id", "n_episodes", "published"),
    [("CartPole-v1", 10, 500.0), ("MountainCar-v0", 100, -101), ("Acrobot-v1", 100, -76)],
)
def test_dqn_agents_play_as_published(zoo, env_id, n_episodes, published):
    """Greedy actions reach an environment as the network means them."""
    teacher = load(folder_of(zoo, f"dqn/{env_id}"))
    returns = episode_returns(teacher.act, env_id, n_episodes)
    assert abs(returns.mean() - published) <= 2 * standard_error(returns)


# --- files that SB3 saves today ---------------------------------------------------------------------------------------

OBSERVATION_SPACES = {
    "box": spaces.Box(-1.0, 1.0, (3,)),
    "box of odd bounds": spaces.Box(*np.sort(np.random.default_rng(0).normal(0, 1e3, (2, 7)), 0).astype(np.float32)),
    "half-open box": spaces.Box(np.array([-4.8, -np.inf, -1e-9], np.float32), np.array([np.inf, 3e38, 0], np.float32)),
    "matrix": spaces.Box(-2.0, 0.5, (2, 3)),
    "box of float64": spaces.Box(-0.25, 0.125, (2,), np.float64),
    "box of integers": spaces.Box(-5, np.array([5, 700], np.int64), (2,), np.int64),
    "discrete": spaces.Discrete(5),
    "discrete from 2": spaces.Discrete(5, start=2),
    "multi-discrete": spaces.MultiDiscrete([2, 3, 11]),
    "multi-binary": spaces.MultiBinary(4),
    "multi-binary matrix": spaces.MultiBinary([2, 3]),
    "flat image": spaces.Box(0, 255, (36, 36), np.uint8),
    "image, channels first": spaces.Box(0, 255, (3, 36, 36), np.uint8),
}
ACTION_SPACES = {
    "discrete": spaces.Discrete(3),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-binary": spaces.MultiBinary(4),
    "box": spaces.Box(np.array([-2.0, -0.1], np.float32), np.array([1.0, 1e4], np.float32)),
}
PAIRS = [(o, "discrete") for o in OBSERVATION_SPACES] + [("box", a) for a in ACTION_SPACES if a != "discrete"]


def saved_ppo(path, observation_space=None, action_space=None, policy="MlpPolicy", env=None, **policy_kwargs):
    env = env or CountdownEnv(observation_space, action_space)
    kwargs = {"net_arch": [4], **policy_kwargs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SB3's about unusual spaces
        model = PPO(policy, env, n_steps=2, batch_size=2, device="cpu", seed=0, policy_kwargs=kwargs)
    model.save(path)
    return model


def assert_same_space(space, expected):
    """Equal exactly: gymnasium's own == lets bounds differ a little."""
    assert space == expected
    assert space.dtype == expected.dtype
    if isinstance(expected, spaces.Box):
        np.testing.assert_array_equal(space.low, expected.low)
        np.testing.assert_array_equal(space.high, expected.high)


@pytest.mark.parametrize(("observations", "actions"), PAIRS)
def test_spaces_survive_saving(tmp_path, observations, actions):
    """Spaces that SB3 writes as text are read back exactly, and the policy on them answers the same."""
    model = saved_ppo(tmp_path / "model", OBSERVATION_SPACES[observations], ACTION_SPACES[actions])
    checkpoint = read_checkpoint(tmp_path / "model.zip")
    assert_same_space(checkpoint.observation_space, OBSERVATION_SPACES[observations])
    assert_same_space(checkpoint.action_space, ACTION_SPACES[actions])
    assert checkpoint.version == stable_baselines3.__version__
    if observations == "discrete from 2":
        return  # SB3 itself cannot encode such an observation
    model.observation_space.seed(0)
    obs = np.stack([model.observation_space.sample() for _ in range(6)])
    mine, theirs = load_teacher(tmp_path / "model.zip", device="cpu"), load_teacher(model)
    for a, b in zip(mine.answer(obs, True), theirs.answer(obs, True), strict=True):
        assert th.equal(a, b)


def test_images_channels_last_are_saved_channels_first(tmp_path):
    """The bounds of an image are abbreviated ("[[[0 0 ... 0 0]]]") and yet read in full."""
    saved_ppo(tmp_path / "model", env=FakeImageEnv(2, 40, 38, 3), policy="CnnPolicy")
    space = read_checkpoint(tmp_path / "model.zip").observation_space
    assert_same_space(space, spaces.Box(0, 255, (3, 40, 38), np.uint8))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (np.zeros((40, 40), np.float32), np.ones((40, 40), np.float32), (-np.inf, np.inf)),
        (np.zeros((40, 40), np.uint8), np.arange(1600).reshape(40, 40).astype(np.uint8), (0, 255)),
        (np.arange(-800, 800).reshape(40, 40), np.full((40, 40), 900), (np.iinfo(np.int64).min, 900)),
    ],
)
def test_abbreviated_bounds_are_never_too_tight(tmp_path, low, high, expected):
    """Bounds that the text leaves out are as wide as the type, rather than some number that stands at a margin."""
    saved_ppo(tmp_path / "model", spaces.Box(low, high, low.shape, low.dtype.type))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        space = read_checkpoint(tmp_path / "model.zip").observation_space
    assert space.shape == low.shape
    assert space.dtype == low.dtype
    assert (space.low == expected[0]).all()
    assert (space.high == expected[1]).all()


def test_an_unknown_kind_of_space_is_named():
    """A space that cannot be read must not be taken for another."""
    with pytest.raises(ValueError, match=r"kind Text; known are Box, Dict, Discrete, MultiDiscrete and MultiBinary"):
        read_space({":type:": "<class 'gymnasium.spaces.text.Text'>"})


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=lambda cls: cls.__name__)
def test_the_network_is_rebuilt_from_text(tmp_path, activation):
    """Activation, actor and critic of unequal sizes, whatever optimiser they had."""
    arch = {"pi": [4, 3], "vf": [5]}
    model = saved_ppo(tmp_path / "m", net_arch=arch, activation_fn=activation, optimizer_class=th.optim.RMSprop)
    obs = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    answer = load_teacher(tmp_path / "m.zip", device="cpu").answer(obs, with_value=True)
    with th.no_grad():
        assert th.equal(answer.parameters, model.policy.get_distribution(th.as_tensor(obs)).distribution.logits)
        assert th.equal(answer.value, model.policy.predict_values(th.as_tensor(obs)).flatten())


def test_the_old_form_of_net_arch_is_read(tmp_path):
    """Up to SB3 1.7, sizes of actor and critic were a dictionary in a list."""
    saved_ppo(tmp_path / "m", net_arch={"pi": [4, 3], "vf": [5]})
    old = read_members(tmp_path / "m.zip")
    data = json.loads(old["data"])
    data["policy_kwargs"]["net_arch"] = [data["policy_kwargs"]["net_arch"]]
    write_zip(tmp_path / "old.zip", old, data=json.dumps(data))
    obs = np.ones((1, 3), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # SB3's about this form is for whoever trains
        load_teacher(tmp_path / "old.zip", device="cpu")
    new, old = (load_teacher(tmp_path / name, device="cpu").answer(obs, True) for name in ("m.zip", "old.zip"))
    assert th.equal(new.parameters, old.parameters)
    assert th.equal(new.value, old.value)


def test_an_unknown_activation_is_named(tmp_path):
    """Silence would build another network than the agent's."""
    saved_ppo(tmp_path / "m", activation_fn=nn.Softsign)
    with pytest.raises(CheckpointError, match=r"m\.zip cannot be read: .*activation_fn=.*Softsign"):
        read_checkpoint(tmp_path / "m.zip")


class DictEnv(CountdownEnv):
    def __init__(self):
        super().__init__(
            spaces.Dict(
                position=spaces.Box(-1.0, 1.0, (2, 2)), speed=spaces.Box(0.0, 5.0, (3,)), gear=spaces.Discrete(4)
            )
        )


def trained_normalization(make_env=CountdownEnv, **kwargs):
    """SB3's wrapper after some steps of random actions."""
    env = VecNormalize(DummyVecEnv([make_env] * 3), **kwargs)
    env.seed(0)
    env.action_space.seed(0)
    env.reset()
    for _ in range(20):
        env.step(np.array([env.action_space.sample() for _ in range(3)]))
    return env


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("stepped", [True, False])
def test_statistics_of_box_observations(tmp_path, protocol, stepped):
    """What SB3 saves today is read, in every protocol that Python pickles by without being asked."""
    env = trained_normalization(clip_obs=3.5, epsilon=1e-4) if stepped else VecNormalize(DummyVecEnv([CountdownEnv]))
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(env, protocol))
    if protocol == pickle.DEFAULT_PROTOCOL:
        env.save(tmp_path / "v.pkl")
    statistics = read_vecnormalize(tmp_path / "v.pkl")
    np.testing.assert_array_equal(statistics.obs_mean, env.obs_rms.mean)
    np.testing.assert_array_equal(statistics.obs_var, env.obs_rms.var)
    assert statistics.obs_mean.dtype == statistics.obs_var.dtype == np.float64
    assert (statistics.clip_obs, statistics.epsilon) == (env.clip_obs, env.epsilon)
    assert statistics.reward_scale == np.sqrt(env.ret_rms.var + env.epsilon)
    assert (statistics.reward_scale != pytest.approx(1.0)) == stepped


@pytest.mark.parametrize("keys", [["position"], ["speed", "position"]])
def test_statistics_of_dict_observations(tmp_path, keys):
    """Of Dict observations, those parts are normalised that were, and no others."""
    env = trained_normalization(DictEnv, norm_obs_keys=keys)
    env.save(tmp_path / "v.pkl")
    statistics = read_vecnormalize(tmp_path / "v.pkl")
    assert sorted(statistics.obs_mean) == sorted(statistics.obs_var) == sorted(keys)
    for key in keys:
        np.testing.assert_array_equal(statistics.obs_mean[key], env.obs_rms[key].mean)
        np.testing.assert_array_equal(statistics.obs_var[key], env.obs_rms[key].var)


@pytest.mark.parametrize(("norm_obs", "norm_reward"), [(True, False), (False, True), (False, False)])
def test_what_was_not_normalised_is_left_alone(tmp_path, norm_obs, norm_reward):
    """The wrapper keeps running statistics of rewards even where it does not use them."""
    env = trained_normalization(norm_obs=norm_obs, norm_reward=norm_reward)
    env.save(tmp_path / "v.pkl")
    statistics = read_vecnormalize(tmp_path / "v.pkl")
    assert (statistics.obs_mean is not None) == (statistics.obs_var is not None) == norm_obs
    assert statistics.reward_scale == (np.sqrt(env.ret_rms.var + env.epsilon) if norm_reward else 1.0)


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("change", [np.asfortranarray, lambda x: x.astype(">f8"), lambda x: x.astype("<f4"), np.rint])
def test_statistics_in_any_layout(tmp_path, protocol, change):
    """Whatever order its bytes and axes are in, an array is read as the numbers that it holds."""
    env = VecNormalize(DummyVecEnv([lambda: CountdownEnv(spaces.Box(-1.0, 1.0, (2, 3)))]))
    mean = change(np.arange(6, dtype=np.float64).reshape(2, 3) / 4)
    env.obs_rms.mean = mean
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(env, protocol))
    statistics = read_vecnormalize(tmp_path / "v.pkl")
    np.testing.assert_array_equal(statistics.obs_mean, mean)
    assert statistics.obs_mean.dtype == np.dtype(np.float64)


def test_statistics_may_come_with_anything(tmp_path):
    """Containers of other kinds among the wrapper's attributes are passed over, not stumbled over."""
    env = trained_normalization()
    env.queue = collections.deque([1, 2])
    env.default = collections.defaultdict(list, a=[1])
    env.ordered = collections.OrderedDict(a=1)
    env.text = np.array(["a", None], dtype=object)
    env.save(tmp_path / "v.pkl")
    np.testing.assert_array_equal(read_vecnormalize(tmp_path / "v.pkl").obs_mean, env.obs_rms.mean)


def test_config_reads_what_the_zoo_writes(tmp_path):
    """The zoo's files hold ordered dictionaries and tuples under Python tags."""
    config = {"normalize": True, "policy_kwargs": "dict(net_arch=[4])", "frame_stack": (1, [2, 3]), "lr": 1e-3}
    text = yaml.dump(collections.OrderedDict(config))
    assert "!!python/object/apply:collections.OrderedDict" in text
    assert "!!python/tuple" in text
    (tmp_path / "config.yml").write_text(text)
    assert read_config(tmp_path / "config.yml") == config | {"frame_stack": [1, [2, 3]]}


# --- files that nobody should have sent -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """The members of a small DQN checkpoint."""
    path = tmp_path_factory.mktemp("dqn") / "dqn.zip"
    DQN("MlpPolicy", CountdownEnv(), buffer_size=2, device="cpu", seed=0, policy_kwargs={"net_arch": [8]}).save(path)
    return read_members(path)


def read_members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path, members, **changed):
    """A zip like another one but for some members; None leaves one out, and "policy" is short for "policy.pth"."""
    changed = {{"policy": "policy.pth"}.get(name, name): value for name, value in changed.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | changed).items():
            if content is not None:
                archive.writestr(name, content)
    return path


def with_entries(members, **entries):
    """The member ``data`` with some entries changed, or left out where they are None."""
    data = json.loads(members["data"]) | entries
    return json.dumps({name: entry for name, entry in data.items() if entry is not None})


def saved(thing):
    buffer = io.BytesIO()
    th.save(thing, buffer)
    return buffer.getvalue()


class Runs:
    """Whoever unpickles this calls a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


HOSTILE = {
    "os.system": lambda flag: Runs(os.system, f"touch '{flag}'"),
    "exec": lambda flag: Runs(exec, f"open({str(flag)!r}, 'w').close()"),
    "open": lambda flag: Runs(open, str(flag), "w"),
    "Path.touch": lambda flag: Runs(Path.touch, flag),
}


@pytest.fixture(params=HOSTILE)
def hostile(request, tmp_path):
    """A thing whose pickle creates a file, and that file."""
    return HOSTILE[request.param](tmp_path / "it ran"), tmp_path / "it ran"


def happened(flag):
    """Whether a pickle ran; makes it undone."""
    ran = flag.exists()
    flag.unlink(missing_ok=True)
    return ran


def first_line(error):
    return str(error.value).splitlines()[0]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize(
    "entry", ["policy_class", "observation_space", "action_space", "policy_kwargs", "lr_schedule", "a_new_one"]
)
def test_pickles_in_data_do_not_run(tmp_path, members, hostile, entry):
    """Every entry may come with a pickle. Only the class name of the policy is read, off the bytes."""
    thing, flag = hostile
    pickled = pickle.dumps(thing)
    before = json.loads(members["data"]).get(entry)
    changed = (
        {**before, ":serialized:": base64.b64encode(pickled).decode()}
        if isinstance(before, dict)
        else {
            ":type:": "<class 'function'>",
            ":serialized:": base64.b64encode(pickled).decode(),
        }
    )
    path = write_zip(tmp_path / "model.zip", members, data=with_entries(members, **{entry: changed}))
    if entry == "policy_class":
        with pytest.raises(CheckpointError) as error:
            load(path)
        assert re.search(r"model\.zip has a policy of its own, \w+\.[\w.]+, which is not imported", first_line(error))
    else:
        teacher = load(path)
        obs = np.ones((2, 3), np.float32)
        untouched = load(write_zip(tmp_path / "untouched.zip", members))
        assert th.equal(teacher.q_values(obs), untouched.q_values(obs))
    assert not happened(flag)

    pickle.loads(pickled)
    assert happened(flag), "control: the pickle is no harmless one"
    load_from_zip_file(path, device="cpu")
    assert happened(flag), "control: it stands where SB3 runs it"


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("form", ["pickle", "torch", "among weights"])
def test_pickles_in_the_weights_do_not_run(tmp_path, members, hostile, form):
    """policy.pth may hold tensors and nothing else; the message does not advise to run it."""
    thing, flag = hostile
    weights = th.load(io.BytesIO(members["policy.pth"]), weights_only=True)
    content = {"pickle": lambda: pickle.dumps(thing), "torch": lambda: saved(thing)}.get(
        form, lambda: saved({**weights, "q_net.extra": thing})
    )()
    path = write_zip(tmp_path / "model.zip", members, policy=content)
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert "model.zip holds more than weights in its member 'policy.pth', so it was not loaded" in first_line(error)
    assert "weights_only" not in str(error.value)
    assert not happened(flag)

    try:
        th.load(io.BytesIO(content), weights_only=False)
    except Exception:  # it has run by then
        assert form == "pickle"
    assert happened(flag), "control: the pickle is no harmless one"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("place", ["all of it", "obs_rms", "epsilon", "norm_reward", "extra"])
def test_pickles_in_statistics_do_not_run(tmp_path, hostile, place):
    """A vecnormalize.pkl is a pickle through and through, and yet nothing that it names is called."""
    thing, flag = hostile
    env = trained_normalization()
    if place != "all of it":
        setattr(env, place, thing)
    content = pickle.dumps(thing if place == "all of it" else env)
    path = tmp_path / "vecnormalize.pkl"
    path.write_bytes(content)
    if place == "extra":
        np.testing.assert_array_equal(read_vecnormalize(path).obs_mean, env.obs_rms.mean)
    else:
        with pytest.raises(CheckpointError) as error:
            read_vecnormalize(path)
        assert "vecnormalize.pkl holds no VecNormalize statistics: " in first_line(error)
    assert not happened(flag)

    pickle.loads(content)
    assert happened(flag), "control: the pickle is no harmless one"


class Lies:
    """Pickles to a numpy array whose dtype says that its bytes are pointers to objects, and hides that it does."""

    def __reduce__(self):
        class Dtype:
            def __reduce__(self):
                state = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
                return np.dtype, ("V8", False, True), state

        # A null pointer. With any other address, numpy would follow it.
        return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), Dtype(), False, bytes(8))


def test_statistics_cannot_forge_pointers(tmp_path):
    """A real numpy.dtype believes what a pickle says about it, then takes bytes for objects in memory."""
    env = trained_normalization()
    env.obs_rms.mean = Lies()
    env.save(tmp_path / "v.pkl")
    with pytest.raises(CheckpointError, match=r"'V8' holds no plain numbers"):
        read_vecnormalize(tmp_path / "v.pkl")


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04N.", b"\x80\x04]", b"\x80\x04\x95\xff", b"PK\x03\x04"])
def test_broken_statistics_are_named(tmp_path, content):
    """Whatever a file holds instead of statistics, the message names the file."""
    (tmp_path / "v.pkl").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"v\.pkl holds no VecNormalize statistics: \w+"):
        read_vecnormalize(tmp_path / "v.pkl")


def test_truncated_statistics_are_named(tmp_path):
    """A download that broke off anywhere."""
    trained_normalization().save(tmp_path / "whole.pkl")
    content = (tmp_path / "whole.pkl").read_bytes()
    for end in range(0, len(content), 37):
        (tmp_path / "v.pkl").write_bytes(content[:end])
        with pytest.raises(CheckpointError, match=r"v\.pkl holds no VecNormalize statistics: \w+"):
            read_vecnormalize(tmp_path / "v.pkl")


@pytest.fixture
def zoo_folder(tmp_path, members):
    """A folder in the layout of the zoo, without statistics."""
    settings = tmp_path / "dqn" / "CartPole-v1_1" / "CartPole-v1"
    settings.mkdir(parents=True)
    write_zip(settings.parent / "CartPole-v1.zip", members)
    return settings.parent


def test_statistics_go_with_the_agent(zoo_folder):
    """``normalize`` in config.yml makes vecnormalize.pkl part of the teacher."""
    env = trained_normalization()
    (zoo_folder / "CartPole-v1" / "config.yml").write_text("normalize: true")
    env.save(zoo_folder / "CartPole-v1" / "vecnormalize.pkl")
    obs = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    teacher = load(zoo_folder)
    expected = load(zoo_folder / "CartPole-v1.zip")
    np.testing.assert_array_equal(teacher.normalize_obs(obs), env.normalize_obs(obs))
    assert teacher.value_scale == np.sqrt(env.ret_rms.var + env.epsilon) != 1.0
    raw = teacher.policy.q_net(th.as_tensor(env.normalize_obs(obs))).detach() * teacher.value_scale
    assert th.equal(teacher.q_values(obs), raw)
    assert th.equal(expected.q_values(obs), raw)


def test_missing_statistics_are_named_before_weights_are_read(zoo_folder):
    """Observations that were to be normalised and are not would give a teacher that plays at random, silently."""
    (zoo_folder / "CartPole-v1" / "config.yml").write_text("normalize: true")
    (zoo_folder / "CartPole-v1.zip").write_text("no checkpoint at all")
    with pytest.raises(CheckpointError) as error:
        load(zoo_folder)
    assert str(zoo_folder / "CartPole-v1" / "vecnormalize.pkl") + " is missing" in first_line(error)
    assert "normalize in its config.yml" in first_line(error)

    (zoo_folder / "CartPole-v1" / "config.yml").write_text("normalize: false")
    with pytest.raises(CheckpointError, match="is not a complete zip file"):
        load(zoo_folder)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    "text",
    [
        "normalize: !!python/object/apply:os.system [\"touch 'FLAG'\"]",
        "normalize: !!python/object/apply:builtins.exec [\"open('FLAG', 'w').close()\"]",
        "normalize: !!python/object/new:os.system [\"touch 'FLAG'\"]",
        "!!python/object/apply:collections.OrderedDict\n- - - a\n    - !!python/object/apply:builtins.open ['FLAG', w]",
        "!!python/object/apply:os.system [\"touch 'FLAG'\"]",
    ],
)
def test_yaml_does_not_run(zoo_folder, tmp_path, text):
    """config.yml is read as plain values, Python tags or not."""
    flag = tmp_path / "it ran"
    text = text.replace("FLAG", str(flag))
    (zoo_folder / "CartPole-v1" / "config.yml").write_text(text)
    with pytest.raises(CheckpointError) as error:
        load(zoo_folder)
    assert "config.yml is not a hyperparameter file of the RL Zoo: could not determine a constructor" in first_line(
        error
    )
    assert not happened(flag)

    yaml.unsafe_load(text)
    assert happened(flag), "control: the file is no harmless one"


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"normalize",
        b"3",
        b"[1, 2]",
        b"a: [",
        b"[" * 5_000,
        b"a: !!bool x",
        b"a: !!timestamp x",
        b"a: 2001-99-99",
    ],
    ids=lambda content: repr(content[:12]),
)
def test_broken_config_is_named(tmp_path, content):
    """Whatever a config.yml holds instead of hyperparameters, the message names the file."""
    (tmp_path / "config.yml").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.yml is not a hyperparameter file of the RL Zoo: \S"):
        read_config(tmp_path / "config.yml")


# --- broken zips ------------------------------------------------------------------------------------------------------


def test_the_small_checkpoint_is_sound(tmp_path, members):
    """Control of all tests below: what they break is whole before."""
    assert load(write_zip(tmp_path / "model.zip", members)).q_values(np.zeros((2, 3), np.float32)).shape == (2, 3)


def test_no_such_file(tmp_path):
    """A missing file is no broken one."""
    with pytest.raises(FileNotFoundError, match=r"No such checkpoint: .*none\.zip"):
        read_checkpoint(tmp_path / "none.zip")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999])
def test_truncated_zips_are_named(tmp_path, members, share):
    """A download that broke off, early or late."""
    path = write_zip(tmp_path / "model.zip", members)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert first_line(error).startswith(f"{path} is not a complete zip file: ")
    assert "Copy or download it again." in first_line(error)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not a complete zip file"),
        (b"A text about zips.\n" * 100, "is not a complete zip file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is not a complete zip file"),
        (b"PK\x05\x06" + bytes(18), "is no SB3 checkpoint: it has no member data and no policy.pth."),
    ],
    ids=["empty", "text", "image", "empty zip"],
)
def test_other_files_are_named(tmp_path, content, problem):
    """A file of another kind under the name of a zip."""
    (tmp_path / "model.zip").write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        load(tmp_path / "model.zip")
    assert first_line(error).startswith(f"{tmp_path / 'model.zip'} {problem}")


def test_torch_files_are_no_checkpoints(tmp_path, members):
    """policy.pth is a zip too."""
    (tmp_path / "policy.pth").write_bytes(members["policy.pth"])
    with pytest.raises(
        CheckpointError, match=r"policy\.pth is no SB3 checkpoint: it has no member data and no policy\.pth"
    ):
        load(tmp_path / "policy.pth")


@pytest.mark.parametrize("name", ["data", "policy.pth", "_stable_baselines3_version"])
def test_a_flipped_byte_in_a_member_is_named(tmp_path, members, name):
    """Weights with a flipped bit would be weights all the same."""
    path = write_zip(tmp_path / "model.zip", members)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo(name).header_offset + 30 + len(name)
    content = bytearray(path.read_bytes())
    assert bytes(content[start : start + len(members[name])]) == members[name]
    content[start + len(members[name]) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert first_line(error).startswith(f"{path} is not a complete zip file: Bad CRC-32 for file '{name}'.")


def test_flipped_bytes_of_the_directory_raise_nothing_else(tmp_path, members):
    """Wherever a zip's own records are damaged, it loads as it was or is named."""
    path = write_zip(tmp_path / "model.zip", members)
    whole = path.read_bytes()
    expected = read_checkpoint(path)
    rng = np.random.default_rng(0)
    records = np.r_[0:60, whole.index(b"PK\x01\x02") : len(whole)]
    n_errors = 0
    for place, value in zip(rng.choice(records, 300), rng.integers(256, size=300), strict=True):
        path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        try:
            checkpoint = read_checkpoint(path)
        except CheckpointError as error:
            n_errors += 1
            assert str(error).startswith(str(path))
        else:
            assert checkpoint.policy_class == expected.policy_class
            assert all(th.equal(checkpoint.weights[key], value) for key, value in expected.weights.items())
    assert n_errors > 50


@pytest.mark.parametrize("absent", ["data", "policy"])
def test_a_missing_member_is_named(tmp_path, members, absent):
    """A zip with one half of a checkpoint."""
    path = write_zip(tmp_path / "model.zip", members, **{absent: None})
    member = {"policy": "policy.pth"}.get(absent, absent)
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert first_line(error) == f"{path} is no SB3 checkpoint: it has no member {member}."


def test_the_version_may_be_missing(tmp_path, members):
    """Only messages need it."""
    path = write_zip(tmp_path / "model.zip", members, _stable_baselines3_version=None)
    assert read_checkpoint(path).version == "unknown"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "'data' is not JSON"),
        (b"policy_class: x", "'data' is not JSON"),
        (b'{"policy_class": ', "'data' is not JSON"),
        (b"\x80\xff\x00", "'data' is not JSON"),
        (b"[" * 100_000, "'data' is not JSON: maximum recursion depth exceeded"),
        (b'{"policy_class":' * 100_000, "'data' is not JSON: maximum recursion depth exceeded"),
        (b'{"policy_class": 1' + b"0" * 10_000 + b"}", "'data' is not JSON"),
        (b"null", "'data' names no policy class."),
        (b"[1, 2]", "'data' names no policy class."),
        (b'"policy_class"', "'data' names no policy class."),
        (b"{}", "'data' names no policy class."),
        (b'{"policy_class": "x"}', "'data' names no policy class."),
    ],
    ids=lambda part: repr(part[:18]) if isinstance(part, bytes) else "",
)
def test_data_that_is_not_sb3s_is_named(tmp_path, members, data, problem):
    """Text that is not JSON, and JSON that is not SB3's."""
    path = write_zip(tmp_path / "model.zip", members, data=data)
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert first_line(error).startswith(f"{path} is no SB3 checkpoint: its member {problem}")


def text_box(**entries):
    return {
        ":type:": "<class 'gymnasium.spaces.box.Box'>",
        "dtype": "float32",
        "_shape": [3],
        "low": "-1",
        "high": "1",
    } | entries


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({"policy_class": {}}, "cannot be read: .*KeyError: ':serialized:'"),
        ({"policy_class": {":serialized:": 3}}, "cannot be read: .*TypeError"),
        ({"policy_class": {":serialized:": "a"}}, "cannot be read: .*base64"),
        ({"policy_class": {":serialized:": ""}}, "cannot be read: the class of its policy has no name"),
        ({"policy_class": {":serialized:": "TjAu"}}, "cannot be read: the class of its policy has no name"),
        ({"policy_kwargs": [1]}, "cannot be read: .*AttributeError"),
        ({"policy_kwargs": {"net_arch": "[64]"}}, "do not fit the network"),
        ({"policy_kwargs": {"net_arch": "[64, "}}, r"cannot be read: policy_kwargs has net_arch='\[64, '"),
        ({"policy_kwargs": {"net_arch": "[64 for _ in (1,)]"}}, "cannot be read: policy_kwargs has net_arch="),
        ({"policy_kwargs": {"zork": 1}}, "cannot be read: policy_kwargs has zork='1'"),
        ({"policy_kwargs": {"net_arch": [-1]}}, r"cannot be read: policy_kwargs has net_arch='\[-1\]'"),
        ({"policy_kwargs": {"net_arch": [None]}}, "cannot be read: policy_kwargs has net_arch"),
        ({"policy_kwargs": {"net_arch": [1] * 65}}, "cannot be read: policy_kwargs has net_arch"),
        (
            {"policy_kwargs": {"activation_fn": "<class 'mine.ReLU'>"}},
            "cannot be read: policy_kwargs has activation_fn",
        ),
        ({"policy_kwargs": {"net_arch": {"qf": [8]}}}, "do not fit the network"),
        ({"policy_kwargs": {"net_arch": [9]}}, "do not fit the network"),
        ({"policy_kwargs": {"net_arch": [10**6, 10**6]}}, "do not fit the network"),
        ({"policy_kwargs": {"net_arch": [10**9]}}, "cannot be read: policy_kwargs has net_arch"),
        ({"policy_kwargs": {"activation_fn": None}}, "cannot be read: policy_kwargs has activation_fn"),
        ({"observation_space": None}, "cannot be read: .*KeyError: 'observation_space'"),
        ({"observation_space": "Box"}, "cannot be read: .*TypeError"),
        ({"observation_space": text_box(**{":type:": 3})}, "cannot be read: .*AttributeError"),
        ({"observation_space": text_box(**{":type:": "Zork"})}, "cannot be read: it has a space of kind Zork"),
        ({"observation_space": text_box(dtype="zork")}, "cannot be read: .*zork"),
        ({"observation_space": text_box(dtype="object")}, "cannot be read: .*object"),
        ({"observation_space": text_box(_shape=[-1])}, r"cannot be read: it has a space of shape \(-1,\)"),
        ({"observation_space": text_box(_shape=[10**9, 10**9])}, "cannot be read: it has a space of shape .*absurd"),
        ({"observation_space": text_box(_shape=[4])}, "do not fit the network"),
        ({"observation_space": text_box(low="2", high="1")}, "cannot be read: .*low"),
        ({"action_space": text_box()}, "do not fit the network"),
        ({"action_space": {":type:": "Discrete", "n": 4}}, "do not fit the network"),
        ({"action_space": {":type:": "Discrete", "n": -3}}, "cannot be read: .*-3"),
        ({"action_space": {":type:": "Discrete", "n": float("inf")}}, "cannot be read: .*inf"),
        ({"action_space": {":type:": "Discrete", "n": 10**15}}, "cannot be read: it has a space of .* choices"),
        ({"action_space": {":type:": "Discrete", "n": 10**7}}, "do not fit the network"),
    ],
    ids=str,
)
def test_entries_that_make_no_policy_are_named(tmp_path, members, entries, problem):
    """JSON that looks like SB3's and describes no network, or another one than the weights are of."""
    path = write_zip(tmp_path / "model.zip", members, data=with_entries(members, **entries))
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert first_line(error).startswith(str(path))
    assert re.search(problem, str(error.value))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_policy_of_another_family_is_named(tmp_path, members, protocol):
    """The class is told apart by its whole name, in either of the two ways that pickles write one."""
    pickled = base64.b64encode(pickle.dumps(collections.Counter, protocol)).decode()
    path = write_zip(
        tmp_path / "model.zip", members, data=with_entries(members, policy_class={":serialized:": pickled})
    )
    assert read_checkpoint(path).policy_class == "collections.Counter"
    with pytest.raises(CheckpointError, match=r"model\.zip has a policy of its own, collections\.Counter,"):
        load(path)


WRONG_WEIGHTS = {
    "one tensor": (
        lambda w: th.zeros(3),
        "is no SB3 checkpoint: its member 'policy.pth' is not a dictionary of tensors.",
    ),
    "list": (
        lambda w: list(w.values()),
        "is no SB3 checkpoint: its member 'policy.pth' is not a dictionary of tensors.",
    ),
    "numbers": (
        lambda w: dict.fromkeys(w, 1.0),
        "is no SB3 checkpoint: its member 'policy.pth' is not a dictionary of tensors.",
    ),
    "numbers for names": (
        lambda w: dict(enumerate(w.values())),
        "is no SB3 checkpoint: its member 'policy.pth' is not a dictionary of tensors.",
    ),
    "arrays": (lambda w: {k: v.numpy() for k, v in w.items()}, "holds more than weights in its member 'policy.pth'"),
    "shapes": (lambda w: {k: v[:1] for k, v in w.items()}, "has weights that do not fit the network it describes"),
    "one missing": (lambda w: dict(list(w.items())[1:]), "has weights that do not fit the network it describes"),
    "one more": (lambda w: {**w, "x": th.zeros(1)}, "has weights that do not fit the network it describes"),
    "none": (lambda w: {}, "has weights that do not fit the network it describes"),
}


@pytest.mark.parametrize("change", WRONG_WEIGHTS)
def test_wrong_weights_are_named(tmp_path, members, change):
    """No network runs with some of its weights left as they were drawn."""
    make, problem = WRONG_WEIGHTS[change]
    weights = th.load(io.BytesIO(members["policy.pth"]), weights_only=True)
    path = write_zip(tmp_path / "model.zip", members, policy=saved(make(weights)))
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert first_line(error).startswith(f"{path} {problem}")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_truncated_weights_are_named(tmp_path, members, share):
    """A whole zip around half a policy.pth."""
    content = members["policy.pth"]
    path = write_zip(tmp_path / "model.zip", members, policy=content[: int(share * len(content))])
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert re.match(rf"{re.escape(str(path))} has a damaged member 'policy.pth': \w+", first_line(error))


def test_text_for_weights_is_named(tmp_path, members):
    """torch trips over such bytes with errors of its own."""
    path = write_zip(tmp_path / "model.zip", members, policy=b"hello world")
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert first_line(error).startswith(f"{path} has a damaged member 'policy.pth': ")


def test_a_teacher_is_loaded_without_an_optimiser():
    """Torch takes seconds to make its first optimiser, and a teacher never steps one."""
    code = (
        "import sys; from sb3_distill import load_teacher; load_teacher('zoo:dqn/CartPole-v1', tune=False); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_bundled_agents_come_without_their_optimisers_numbers():
    """They are for teaching, and these would be half of the file; SB3's own ``load`` still finds an optimiser to fill."""
    zips = sorted(BUNDLED.rglob("*.zip"))
    assert len(zips) == 6
    for path in zips:
        with zipfile.ZipFile(path) as archive:
            assert th.load(io.BytesIO(archive.read("policy.optimizer.pth")), weights_only=True)["state"] == {}
