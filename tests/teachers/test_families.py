"""Teachers of every family of algorithms, rebuilt from files, against what SB3 itself computes with the live model."""

import json
import math
import re
import time
import zipfile
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv, FakeImageEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper
from torch import nn

from envs_for_tests import ACTION_SPACES, DICT_SPACE, CountdownEnv
from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.load import load_teacher
from sb3_distill.evaluation.episodes import episode_returns, make_plain_envs
from sb3_distill.memory.space_text import space_from_data, space_to_data
from sb3_distill.rules.distributions import from_parameters, parameter_size
from sb3_distill.rules.losses import cross_entropy
from sb3_distill.teachers.actor_critic import ActorCriticTeacher
from sb3_distill.teachers.bounded import MIN_STD, DeterministicTeacher, SquashedTeacher, tanh_moments
from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.recurrent import RecurrentTeacher

N_OBS = 1_000
#: Both sides run the same float32 operations on the same batch: what is left is their order in a product of matrices.
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}

BOX = ACTION_SPACES["box"]
#: neither symmetric nor of one width
LOPSIDED = spaces.Box(np.array([-2.0, 1.0], np.float32), np.array([3.0, 1.5], np.float32))
MIXED = spaces.Dict({"image": spaces.Box(0, 255, (36, 36, 1), np.uint8), "vector": spaces.Box(-1.0, 1.0, (3,))})


def countdown(actions=BOX, observations=None):
    return CountdownEnv(deepcopy(observations), deepcopy(actions))


def image(discrete=True):
    return FakeImageEnv(3, 36, 40, 1, discrete=discrete)


def randomise(policy, seed=0):
    """No weight stays zero or equal to another, and batch normalisation has seen something."""
    generator = th.Generator().manual_seed(seed)
    with th.no_grad():
        for parameter in policy.parameters():
            noise = th.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:  # what a state is must matter more than the biases
                parameter *= 2
                parameter += noise / math.sqrt(parameter[0].numel())
            else:
                parameter += 0.05 * noise
        for buffer in policy.buffers():
            if buffer.is_floating_point():
                buffer += 0.5 * th.rand(buffer.shape, generator=generator)
            else:
                buffer += 7


def model_of(algorithm, policy, env, **kwargs):
    """A tiny model, as random as a network can be."""
    settings = {"device": "cpu", "seed": 0}
    if algorithm in (PPO, TRPO, MaskablePPO, RecurrentPPO):
        settings |= {"n_steps": 4, "batch_size": 4}
    elif algorithm not in (A2C, ARS):
        settings |= {"buffer_size": 10, "learning_starts": 10}
    small = {"net_arch": [16, 8]} if policy != "LinearPolicy" else {}
    if algorithm in (PPO, A2C, TRPO) and policy == "CnnPolicy":
        small = {"features_extractor_kwargs": {"features_dim": 12}}
    settings["policy_kwargs"] = small | kwargs.pop("policy_kwargs", {})
    model = algorithm(policy, env, **(settings | kwargs))
    randomise(model.policy)
    if isinstance(model, (DQN, QRDQN)):
        centre(model)
    return model


def centre(model):
    """Every action of a Q-network is above its median in half of the states, so that none is the best in all of them."""
    network = model.q_net if isinstance(model, DQN) else model.quantile_net
    with th.no_grad():
        outputs = network(model.policy.obs_to_tensor(observations(raw_space(model), n=200, seed=1))[0])
        last = (network.q_net if isinstance(model, DQN) else network.quantile_net)[-1]
        last.bias -= outputs.flatten(1).median(dim=0).values


def her(algorithm, env, **kwargs):
    return model_of(algorithm, "MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, **kwargs)


class Bits(BitFlippingEnv):
    """One that knows of no registered environment."""

    spec = None


FAMILIES = {
    # Q-networks
    "dqn": lambda: model_of(DQN, "MlpPolicy", countdown(spaces.Discrete(3))),
    "dqn, image": lambda: model_of(DQN, "CnnPolicy", image()),
    "dqn, dict": lambda: model_of(DQN, "MultiInputPolicy", countdown(spaces.Discrete(3), MIXED)),
    "dqn, her": lambda: her(DQN, Bits(4)),
    "dqn, her on numbers": lambda: her(DQN, Bits(4, discrete_obs_space=True)),
    "dqn, elu": lambda: model_of(
        DQN, "MlpPolicy", countdown(spaces.Discrete(3)), policy_kwargs={"net_arch": [], "activation_fn": nn.ELU}
    ),
    "qrdqn": lambda: model_of(
        QRDQN, "MlpPolicy", countdown(spaces.Discrete(3)), policy_kwargs={"n_quantiles": 7, "net_arch": [9]}
    ),
    "qrdqn, image": lambda: model_of(QRDQN, "CnnPolicy", image(), policy_kwargs={"n_quantiles": 5}),
    "qrdqn, dict": lambda: model_of(QRDQN, "MultiInputPolicy", countdown(spaces.Discrete(3), DICT_SPACE)),
    # actor-critics
    **{
        f"{algorithm.__name__.lower()}, {name}": lambda algorithm=algorithm, space=space: model_of(
            algorithm, "MlpPolicy", countdown(space)
        )
        for algorithm in (PPO, A2C, TRPO)
        for name, space in ACTION_SPACES.items()
    },
    **{
        f"{algorithm.__name__.lower()}, gsde": lambda algorithm=algorithm: model_of(
            algorithm, "MlpPolicy", countdown(LOPSIDED), use_sde=True
        )
        for algorithm in (PPO, A2C, TRPO)
    },
    "ppo, image": lambda: model_of(PPO, "CnnPolicy", image()),
    "a2c, image": lambda: model_of(A2C, "CnnPolicy", image(discrete=False)),
    "trpo, image": lambda: model_of(TRPO, "CnnPolicy", image()),
    "ppo, dict": lambda: model_of(PPO, "MultiInputPolicy", countdown(BOX, MIXED)),
    "a2c, dict": lambda: model_of(A2C, "MultiInputPolicy", countdown(spaces.MultiBinary(3), DICT_SPACE)),
    "trpo, dict": lambda: model_of(TRPO, "MultiInputPolicy", countdown(spaces.Discrete(3), DICT_SPACE)),
    "ppo, own networks": lambda: model_of(
        PPO,
        "MlpPolicy",
        countdown(LOPSIDED),
        policy_kwargs={
            "net_arch": {"pi": [5, 6, 7], "vf": [11]},
            "activation_fn": nn.LeakyReLU,
            "log_std_init": -1.5,
            "share_features_extractor": False,
            "ortho_init": False,
        },
    ),
    "ppo, two extractors": lambda: model_of(
        PPO,
        "CnnPolicy",
        image(),
        policy_kwargs={"share_features_extractor": False, "features_extractor_kwargs": {"features_dim": 11}},
    ),
    "ppo, extractor of dicts": lambda: model_of(
        PPO,
        "MultiInputPolicy",
        countdown(spaces.Discrete(3), MIXED),
        policy_kwargs={"features_extractor_kwargs": {"cnn_output_dim": 13, "normalized_image": False}},
    ),
    "ppo, thin gsde": lambda: model_of(
        PPO,
        "MlpPolicy",
        countdown(LOPSIDED),
        use_sde=True,
        policy_kwargs={"full_std": False, "use_expln": True, "log_std_init": 0.5},
    ),
    **{
        f"maskable, {name}": lambda name=name: model_of(MaskablePPO, "MlpPolicy", countdown(ACTION_SPACES[name]))
        for name in ("discrete", "multi_discrete", "multi_binary")
    },
    "maskable, image": lambda: model_of(MaskablePPO, "CnnPolicy", image()),
    "maskable, dict": lambda: model_of(MaskablePPO, "MultiInputPolicy", countdown(spaces.Discrete(3), DICT_SPACE)),
    # bounded actions
    "sac": lambda: model_of(SAC, "MlpPolicy", countdown(LOPSIDED)),
    "sac, gsde": lambda: model_of(SAC, "MlpPolicy", countdown(LOPSIDED), use_sde=True),
    "sac, dict": lambda: model_of(SAC, "MultiInputPolicy", countdown(LOPSIDED, MIXED)),
    "sac, image": lambda: model_of(SAC, "CnnPolicy", image(discrete=False)),
    "sac, her": lambda: her(SAC, Bits(4, continuous=True)),
    "sac, own networks": lambda: model_of(
        SAC,
        "MlpPolicy",
        countdown(LOPSIDED),
        policy_kwargs={
            "net_arch": {"pi": [5], "qf": [7, 6]},
            "n_critics": 3,
            "share_features_extractor": True,
            "activation_fn": nn.Tanh,
            "log_std_init": -1.0,
        },
    ),
    "sac, table of actions": lambda: model_of(SAC, "MlpPolicy", countdown(spaces.Box(-1.0, 2.0, (2, 2)))),
    "tqc": lambda: model_of(TQC, "MlpPolicy", countdown(LOPSIDED)),
    "tqc, gsde": lambda: model_of(
        TQC, "MlpPolicy", countdown(LOPSIDED), use_sde=True, policy_kwargs={"n_quantiles": 6, "n_critics": 3}
    ),
    "tqc, dict": lambda: model_of(TQC, "MultiInputPolicy", countdown(LOPSIDED, DICT_SPACE)),
    "crossq": lambda: model_of(CrossQ, "MlpPolicy", countdown(LOPSIDED)),
    "crossq, gsde": lambda: model_of(CrossQ, "MlpPolicy", countdown(LOPSIDED), use_sde=True),
    "crossq, without normalisation": lambda: model_of(
        CrossQ, "MlpPolicy", countdown(LOPSIDED), policy_kwargs={"batch_norm": False, "n_critics": 1}
    ),
    "td3": lambda: model_of(TD3, "MlpPolicy", countdown(LOPSIDED)),
    "td3, image": lambda: model_of(TD3, "CnnPolicy", image(discrete=False)),
    "td3, dict": lambda: model_of(TD3, "MultiInputPolicy", countdown(LOPSIDED, DICT_SPACE)),
    "ddpg": lambda: model_of(DDPG, "MlpPolicy", countdown(LOPSIDED)),
    "ddpg, own networks": lambda: model_of(
        DDPG, "MlpPolicy", countdown(LOPSIDED), policy_kwargs={"net_arch": {"pi": [5], "qf": [7]}, "n_critics": 2}
    ),
    "ars, discrete": lambda: model_of(ARS, "MlpPolicy", countdown(spaces.Discrete(3))),
    "ars, box": lambda: model_of(ARS, "MlpPolicy", countdown(LOPSIDED)),
    "ars, clipped": lambda: model_of(
        ARS, "MlpPolicy", countdown(LOPSIDED), policy_kwargs={"squash_output": False, "with_bias": False}
    ),
    "ars, linear, discrete": lambda: model_of(ARS, "LinearPolicy", countdown(spaces.Discrete(3))),
    "ars, linear, box": lambda: model_of(ARS, "LinearPolicy", countdown(LOPSIDED)),
    "ars, linear, squashed": lambda: model_of(
        ARS, "LinearPolicy", countdown(LOPSIDED), policy_kwargs={"squash_output": True, "with_bias": True}
    ),
    "ars, clipped table": lambda: model_of(ARS, "LinearPolicy", countdown(spaces.Box(-0.5, 2.0, (2, 2)))),
}
CLASSES = {
    QTeacher: ("dqn", "qrdqn"),
    ActorCriticTeacher: ("ppo", "a2c", "trpo", "maskable"),
    SquashedTeacher: ("sac", "tqc", "crossq"),
    DeterministicTeacher: ("td3", "ddpg", "ars"),
}


def observations(space, n=N_OBS, seed=0):
    """A batch of random observations, as an environment gives them; some images are darker than others."""
    space = deepcopy(space)
    space.seed(seed)
    rng = np.random.default_rng(seed)

    def shaded(values):
        if values.dtype != np.uint8:
            return values
        return (values * rng.random((n, *[1] * (values.ndim - 1)))).astype(np.uint8)

    samples = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        return {key: shaded(np.stack([sample[key] for sample in samples])) for key in space.spaces}
    return shaded(np.stack(samples))


def saved(model, tmp_path):
    """The path of its zip."""
    model.save(tmp_path / "model.zip")
    return tmp_path / "model.zip"


def reload(model, tmp_path, **options):
    """A teacher from the model's file."""
    if isinstance(model, (DQN, QRDQN)):
        options = {"temperature": 1.0, "epsilon": 0.05} | options
    return load_teacher(saved(model, tmp_path), device="cpu", **options)


def raw_space(model):
    """The space before SB3's own transposition of images."""
    env = model.env
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    return env.observation_space


# --- what SB3 says of its live model ----------------------------------------------------------------------------------


def sb3_distribution(model, tensors):
    """Parameters as SB3's distribution has them, read off its probabilities and moments."""
    distribution = model.policy.get_distribution(tensors)
    space = model.action_space
    n = len(next(iter(tensors.values()))) if isinstance(tensors, dict) else len(tensors)
    if isinstance(space, spaces.Discrete):
        return th.stack([distribution.log_prob(th.full((n,), a)) for a in range(space.n)], dim=1)
    if isinstance(space, spaces.MultiBinary):
        # One bit set more or less: by how much log π changes is the logit.
        off = distribution.log_prob(th.zeros(n, space.n))
        return th.stack([distribution.log_prob(th.eye(space.n)[i].expand(n, -1)) - off for i in range(space.n)], dim=1)
    if isinstance(space, spaces.MultiDiscrete):
        own = distribution.distributions if isinstance(model, MaskablePPO) else distribution.distribution
        return th.cat([factor.probs.log() for factor in own], dim=1)
    normal = distribution.distribution
    return th.cat([normal.loc, normal.scale.log()], dim=1)


def sb3_q_values(model, tensors):
    if isinstance(model, QRDQN):
        quantiles = model.policy.quantile_net(tensors)
        assert quantiles.shape[1] == model.policy.quantile_net.n_quantiles
        return quantiles.mean(dim=1)
    return model.q_net(tensors)


def sb3_value_of_greedy(model, tensors):
    """What the critics say about the actor's own greedy actions, which are in [-1, 1]."""
    greedy = model.actor(tensors) if isinstance(model, TD3) else model.actor(tensors, deterministic=True)
    values = model.critic(tensors, greedy)
    if isinstance(model, TQC):
        return values.mean(dim=2).mean(dim=1)
    return th.stack(values).min(dim=0).values.squeeze(1)


def moments(mean, std):
    """Mean and standard deviation of tanh(u), u ∼ N(mean, std²): trapezoids in float64, 4,001 of them in 24 σ."""
    z = np.linspace(-12.0, 12.0, 4_001)
    weights = np.exp(-(z**2) / 2)
    weights /= weights.sum()
    first, second = np.empty(mean.shape), np.empty(mean.shape)
    for index in np.ndindex(mean.shape):
        values = np.tanh(mean[index] + std[index] * z)
        first[index] = weights @ values
        second[index] = math.sqrt(weights @ (values - first[index]) ** 2)
    return first, second


def sb3_squashed(model, tensors):
    """Mean and standard deviation before tanh, from the actor's own distribution."""
    mean, log_std, kwargs = model.actor.get_action_dist_params(tensors)
    normal = model.actor.action_dist.proba_distribution(mean, log_std, **kwargs).distribution
    if not kwargs:
        th.testing.assert_close(normal.scale, log_std.exp())
    return normal.loc.double().numpy(), normal.scale.double().numpy()


def gaussian(space, mean, std):
    """Parameters of a Gaussian in the environment's units, from its moments in [-1, 1]."""
    low, high = (bound.flatten().astype(np.float64) for bound in (space.low, space.high))
    return np.concatenate(
        [low + (mean + 1) / 2 * (high - low), np.log((high - low) / 2 * np.maximum(std, MIN_STD))], axis=1
    )


def softened(q_values, epsilon):
    """log[(1−ε) softmax(Q) + ε/|A|] in float64."""
    scaled = np.exp(q_values - q_values.max(1, keepdims=True))
    return np.log((1 - epsilon) * scaled / scaled.sum(1, keepdims=True) + epsilon / q_values.shape[1])


def sb3_answer(model, obs):
    """Parameters of π and V_π as they follow from SB3's own methods on the live model, and the greedy actions."""
    model.policy.set_training_mode(False)
    tensors, vectorized = model.policy.obs_to_tensor(obs)
    assert vectorized
    greedy = model.predict(obs, deterministic=True)[0]
    with th.no_grad():
        if isinstance(model, (DQN, QRDQN)):
            q_values = sb3_q_values(model, tensors).double().numpy()
            params = softened(q_values, 0.05)
            return params, (np.exp(params) * q_values).sum(1), greedy
        if isinstance(model, (PPO, A2C, TRPO, MaskablePPO)):
            return sb3_distribution(model, tensors), model.policy.predict_values(tensors).flatten(), greedy
        if isinstance(model, (SAC, TQC, CrossQ)):
            params = gaussian(model.action_space, *moments(*sb3_squashed(model, tensors)))
            return params, sb3_value_of_greedy(model, tensors), greedy
    if isinstance(model.action_space, spaces.Discrete):
        probs = np.full((len(greedy), model.action_space.n), 0.01 / model.action_space.n)
        probs[np.arange(len(greedy)), greedy] += 0.99
        return np.log(probs), None, greedy
    scaled = model.policy.scale_action(greedy).reshape(len(greedy), -1).astype(np.float64)
    params = gaussian(model.action_space, scaled, np.full(scaled.shape, 0.1))
    with th.no_grad():
        return params, None if isinstance(model, ARS) else sb3_value_of_greedy(model, tensors), greedy


@pytest.mark.parametrize("name", FAMILIES)
def test_a_rebuilt_teacher_is_the_model(name, tmp_path):
    """Distribution, value and greedy action of a teacher from a file are those that SB3 computes with the live model."""
    model = FAMILIES[name]()
    teacher = reload(model, tmp_path)
    expected_class = next(cls for cls, names in CLASSES.items() if name.partition(",")[0] in names)
    assert type(teacher) is expected_class
    assert teacher.policy is not model.policy
    assert teacher.observation_space == model.observation_space
    assert teacher.action_space == model.action_space
    obs = observations(raw_space(model))
    params, values, greedy = sb3_answer(model, obs)
    answer = teacher.answer_in_chunks(obs, with_value=values is not None, chunk=N_OBS)
    assert answer.parameters.shape == (N_OBS, parameter_size(model.action_space))
    assert answer.parameters.dtype == th.float32
    if expected_class is SquashedTeacher:
        # An integral in float32, see below. Where tanh is all but saturated, little of the mass makes all of the variance,
        # and its logarithm is a relative error.
        mean, log_std = np.split(answer.parameters.numpy(), 2, axis=1)
        expected_mean, expected_log_std = np.split(params, 2, axis=1)
        np.testing.assert_allclose(mean, expected_mean, rtol=0, atol=1e-5)
        np.testing.assert_allclose(log_std, expected_log_std, rtol=0, atol=1e-4)
    else:
        np.testing.assert_allclose(answer.parameters.numpy(), params, **TOLERANCE)
    assert teacher.has_value == (values is not None)
    if values is not None:
        np.testing.assert_allclose(answer.value.numpy(), values, **TOLERANCE)
    # Another state is answered otherwise: what is compared is not constant.
    assert len(np.unique(answer.parameters.numpy().round(4), axis=0)) > 1
    actions = teacher.act(obs)
    assert actions.shape == greedy.shape
    if isinstance(model.action_space, spaces.Box):
        np.testing.assert_allclose(actions, greedy, **TOLERANCE)
    else:
        np.testing.assert_array_equal(actions, greedy)
        assert len(np.unique(greedy, axis=0)) > 1, "one action for all states is compared with itself"


def test_an_unusual_policy_says_what_it_is(tmp_path):
    """PPO can squash its actions under gSDE: no closed form compares that with a student, and the message says so."""
    model = model_of(PPO, "MlpPolicy", countdown(BOX), use_sde=True, policy_kwargs={"squash_output": True})
    with pytest.raises(CheckpointError, match="squash_output=False"):
        reload(model, tmp_path)


@pytest.mark.parametrize(
    "name", ["dqn", "qrdqn", "ppo, gsde", "a2c, dict", "maskable, multi_binary", "sac", "crossq", "ddpg", "ars, box"]
)
def test_a_live_model_is_its_own_teacher(name, tmp_path):
    """Without a detour by a file, to the bit; what its owner trains goes on to be trained."""
    model = FAMILIES[name]()
    options = {"temperature": 1.0, "epsilon": 0.05} if isinstance(model, (DQN, QRDQN)) else {}
    trainable = [parameter.requires_grad for parameter in model.policy.parameters()]
    live, rebuilt = load_teacher(model, **options), reload(model, tmp_path)
    assert live.policy is model.policy
    assert [parameter.requires_grad for parameter in model.policy.parameters()] == trainable
    obs = observations(raw_space(model), n=50)
    for mine, theirs in zip(live.answer(obs, live.has_value), rebuilt.answer(obs, live.has_value), strict=True):
        assert mine is theirs is None or th.equal(mine, theirs)


# --- what loading leaves alone ----------------------------------------------------------------------------------------

ONE_OF_EACH = ["dqn", "qrdqn", "ppo, gsde", "maskable, discrete", "sac, gsde", "tqc, gsde", "crossq", "td3", "ars, box"]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_loading_touches_no_random_state_and_asks_for_no_gradient(name, tmp_path):
    """A student's run is the same wherever its teacher came from, and no optimiser can move the teacher."""
    path = saved(FAMILIES[name](), tmp_path)
    th.manual_seed(3)
    np.random.seed(3)
    torch_state, numpy_state = th.get_rng_state(), np.random.get_state()
    teacher = load_teacher(path, device="cpu")
    assert th.equal(th.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state[1])
    assert np.random.get_state()[2:] == numpy_state[2:]
    assert not any(parameter.requires_grad for parameter in teacher.policy.parameters())
    assert not teacher.policy.training
    tensors = [*teacher.policy.parameters(), *teacher.policy.buffers()]
    assert tensors
    assert {str(tensor.device) for tensor in tensors} == {"cpu"}


def with_policy_kwargs(path, **kwargs):
    """A zip like another one, whose network is said to be otherwise."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(members["data"])
    data["policy_kwargs"] |= kwargs
    members["data"] = json.dumps(data).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def resident(field):
    """Kilobytes that this process has (``VmRSS``) or has had at most (``VmHWM``)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process its own peak")
@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("dqn", {"net_arch": [2**13, 2**13]}),  # 268 MB, which there would be
        ("dqn", {"net_arch": [2**20, 2**20]}),
        ("qrdqn", {"n_quantiles": 2**20, "net_arch": [2**20]}),
        ("ppo, discrete", {"net_arch": {"pi": [2**20, 2**20], "vf": [2**20, 2**20]}}),
        ("sac", {"net_arch": [2**20, 2**20]}),
        ("sac", {"n_critics": 2**20}),
        ("tqc", {"n_critics": 5_000}),
        ("td3", {"net_arch": [2**20, 2**20], "n_critics": 50_000}),
        ("recurrent", {"lstm_hidden_size": 2**13}),
        ("recurrent", {"lstm_hidden_size": 2**20}),
        ("recurrent", {"n_lstm_layers": 2**20}),
    ],
)
def test_a_claimed_size_takes_no_memory(name, claims, tmp_path):
    """What a file says of its network is compared with its weights before any of it is laid out in memory."""
    model = FAMILIES[name]() if name in FAMILIES else recurrent_model(countdown(BOX))
    path = with_policy_kwargs(saved(model, tmp_path), **claims)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that from here on
    before, start = resident("VmRSS"), time.perf_counter()
    with pytest.raises(CheckpointError):
        load_teacher(path, device="cpu")
    assert time.perf_counter() - start < 2.0
    assert resident("VmHWM") - before < 50_000


# --- teachers that remember -------------------------------------------------------------------------------------------


class Uneven(CountdownEnv):
    """Episodes of two to five steps, other ones in each environment; every other one is cut by a time limit."""

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.episode = 3 * seed
        return super().reset(seed=seed, options=options)

    def step(self, action):
        obs, *_ = super().step(action)
        over, limit = self.step_count == 2 + self.episode % 4, self.episode % 2 == 0
        return obs, 1.0, over and not limit, over and limit, {}


class Listening(VecEnvWrapper):
    """Keeps what the environment said last."""

    def reset(self):
        self.obs = self.venv.reset()
        return self.obs

    def step_wait(self):
        self.obs, rewards, self.dones, infos = self.venv.step_wait()
        self.infos = [dict(info) for info in infos]
        return self.obs, rewards, self.dones, infos


def recurrent_model(env, policy="MlpLstmPolicy", **kwargs):
    policy_kwargs = {"lstm_hidden_size": 6, "net_arch": [5]} | kwargs.pop("policy_kwargs", {})
    return model_of(RecurrentPPO, policy, env, policy_kwargs=policy_kwargs, **kwargs)


IMAGE_OBS = spaces.Box(0, 255, (36, 36, 1), np.uint8)
RECURRENT = {
    "plain": (BOX, None, {}),
    "discrete": (spaces.Discrete(3), None, {}),
    "several": (spaces.MultiDiscrete([2, 3]), None, {}),
    "shared": (BOX, None, {"shared_lstm": True, "enable_critic_lstm": False}),
    "feedforward critic": (BOX, None, {"enable_critic_lstm": False}),
    "two layers": (BOX, None, {"n_lstm_layers": 2}),
    "two shared layers": (BOX, None, {"n_lstm_layers": 2, "shared_lstm": True, "enable_critic_lstm": False}),
    "own networks": (BOX, None, {"net_arch": {"pi": [4, 7], "vf": [9]}, "lstm_kwargs": {"bias": False}}),
    "dict": (BOX, DICT_SPACE, {}),
    "image, two extractors": (
        BOX,
        IMAGE_OBS,
        {"share_features_extractor": False, "features_extractor_kwargs": {"features_dim": 10}},
    ),
    "gsde": (LOPSIDED, None, {}),
}
LSTM_POLICIES = {"dict": "MultiInputLstmPolicy", "image, two extractors": "CnnLstmPolicy"}


@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_teacher_remembers_as_the_model_does(name, tmp_path):
    """Step by step through episodes' ends, against SB3's own forward pass and prediction with carried states."""
    actions, observed, policy_kwargs = RECURRENT[name]
    n_envs = 3
    model = recurrent_model(
        Uneven(deepcopy(observed), deepcopy(actions)),
        LSTM_POLICIES.get(name, "MlpLstmPolicy"),
        policy_kwargs=policy_kwargs,
        **({"use_sde": True} if name == "gsde" else {}),
    )
    policy = model.policy
    policy.set_training_mode(False)
    teacher = reload(model, tmp_path)
    assert type(teacher) is RecurrentTeacher
    env = DummyVecEnv([lambda: Uneven(deepcopy(observed), deepcopy(actions))] * n_envs)
    env.seed(1)
    env = Listening(env)
    view = teacher.view(env)
    seen = view.reset()

    zeros = th.zeros(policy.lstm_hidden_state_shape[0], n_envs, 6)
    states, starts = RNNStates((zeros, zeros), (zeros, zeros)), th.ones(n_envs)
    predict_state, ends, memory_matters = None, 0, 0.0

    def parameters_of(distribution):
        if isinstance(actions, spaces.Discrete):
            return distribution.distribution.probs.log()
        if isinstance(actions, spaces.MultiDiscrete):
            return th.cat([factor.probs.log() for factor in distribution.distribution], dim=1)
        normal = distribution.distribution
        return th.cat([normal.loc, normal.scale.log()], dim=1)

    for _ in range(25):
        tensors, _ = policy.obs_to_tensor(env.obs)
        with th.no_grad():
            params = parameters_of(policy.get_distribution(tensors, states.pi, starts)[0])
            values = policy.predict_values(tensors, states.vf, starts).flatten()
            greedy, own_values, _, new_states = policy.forward(tensors, states, starts, deterministic=True)
            fresh = parameters_of(policy.get_distribution(tensors, (zeros, zeros), starts)[0])
        th.testing.assert_close(own_values.flatten(), values)
        predicted, predict_state = model.predict(
            env.obs, state=predict_state, episode_start=starts.numpy(), deterministic=True
        )
        answer = teacher.answer(seen, with_value=True)
        np.testing.assert_allclose(answer.parameters.numpy(), params.numpy(), **TOLERANCE)
        np.testing.assert_allclose(answer.value.numpy(), values.numpy(), **TOLERANCE)
        acts = teacher.act(seen)
        np.testing.assert_allclose(acts, predicted, **TOLERANCE)
        if not isinstance(actions, spaces.Box):
            np.testing.assert_array_equal(acts, greedy.numpy())
        memory_matters = max(memory_matters, float((fresh - params).abs().max()))

        states = new_states
        seen, _, dones, infos = view.step(np.stack([actions.sample() for _ in range(n_envs)]))
        for i in np.flatnonzero(dones):
            last = env.infos[i]["terminal_observation"]
            one = {key: value[None] for key, value in last.items()} if isinstance(last, dict) else last[None]
            own = [tuple(part[:, i : i + 1] for part in state) for state in (states.pi, states.vf)]
            end = teacher.answer(infos[i]["terminal_observation"][None], with_value=True)
            with th.no_grad():
                tensors, _ = policy.obs_to_tensor(one)
                params = parameters_of(policy.get_distribution(tensors, own[0], th.zeros(1))[0])
                values = policy.predict_values(tensors, own[1], th.zeros(1)).flatten()
            np.testing.assert_allclose(end.parameters.numpy(), params.numpy(), **TOLERANCE)
            np.testing.assert_allclose(end.value.numpy(), values.numpy(), **TOLERANCE)
        ends += dones.sum()
        starts = th.as_tensor(dones, dtype=th.float32)
    assert ends > 10
    assert memory_matters > 0.01, "control: without a memory the answers would be others"


def test_a_recurrent_teacher_plays_as_the_model_does(tmp_path):
    """In its own environments, whole episodes long."""
    model = recurrent_model("CartPole-v1", policy_kwargs={"lstm_hidden_size": 8})
    teacher = reload(model, tmp_path, env_id="CartPole-v1")
    mine = episode_returns(teacher.act, teacher.training_env, n_episodes=6, seed=3)

    state, starts = None, np.ones(6)

    def act(obs):
        nonlocal state, starts
        actions, state = model.predict(obs, state=state, episode_start=starts, deterministic=True)
        return actions

    class Starting(VecEnvWrapper):
        def reset(self):
            return self.venv.reset()

        def step_wait(self):
            nonlocal starts
            obs, rewards, starts, infos = self.venv.step_wait()
            return obs, rewards, starts, infos

    theirs = episode_returns(act, lambda n: Starting(make_plain_envs("CartPole-v1", n)), n_episodes=6, seed=3)
    np.testing.assert_array_equal(mine, theirs)
    assert len(set(mine)) > 1


# --- the mathematics of bounded actions -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [th.float64, th.float32])
def test_moments_of_squashed_gaussians(dtype):
    """Against 4,001 trapezoids in float64, from the narrowest Gaussian that teaches to the widest that SAC allows."""
    mean, std = np.meshgrid(np.linspace(-5.0, 5.0, 41), np.geomspace(1e-3, math.exp(2), 25))
    first, second = tanh_moments(th.as_tensor(mean, dtype=dtype), th.as_tensor(std, dtype=dtype))
    assert first.shape == second.shape == mean.shape
    expected_first, expected_second = moments(mean, std)
    # The worst errors are 1.4e-6 and 6.7e-6, where σ is e².
    np.testing.assert_allclose(first.numpy(), expected_first, rtol=0, atol=2e-6)
    np.testing.assert_allclose(second.numpy(), expected_second, rtol=0, atol=1e-5)
    # Where it is narrow, tanh is a line: the test's own integral against something that is no integral.
    line = np.tanh(mean[0]), std[0] * (1 - np.tanh(mean[0]) ** 2)
    np.testing.assert_allclose(expected_first[0], line[0], atol=1e-6)
    np.testing.assert_allclose(expected_second[0], line[1], atol=1e-6)


def test_moments_far_out():
    """A mean that is far from 0 for its width: the variance is in the tail, and so is what a teacher is sure of."""
    mean, std = np.meshgrid(np.linspace(0.0, 25.0, 51), np.geomspace(1e-3, math.exp(2), 15))
    _, second = tanh_moments(th.as_tensor(mean), th.as_tensor(std))
    _, expected = moments(mean, std)
    error = np.abs(np.log(np.maximum(second.numpy(), MIN_STD) / np.maximum(expected, MIN_STD)))
    assert error.max() < 1e-4  # 3.8e-5


@pytest.mark.parametrize("use_sde", [False, True])
@pytest.mark.parametrize("algorithm", [SAC, TQC])
def test_the_gradient_is_that_of_the_squashed_distribution(algorithm, use_sde, tmp_path):
    """H×(π‖π_θ) of a Gaussian with π's moments has π's own gradient: against a mean over actions that SB3 draws."""
    wide = {"log_std_init": 0.0} if use_sde else {}  # by default gSDE is so narrow that tanh is a line
    model = model_of(algorithm, "MlpPolicy", countdown(LOPSIDED), use_sde=use_sde, policy_kwargs=wide)
    teacher, space = reload(model, tmp_path), model.action_space
    obs, n = observations(raw_space(model), n=4), 50_000
    student = th.cat([th.full((4, 2), 0.3), th.full((4, 2), 0.1)], dim=1).requires_grad_()
    loss = cross_entropy(from_parameters(space, teacher.answer(obs).parameters), from_parameters(space, student)).sum()
    mine = th.autograd.grad(loss, student)[0].numpy()

    tensors, _ = model.policy.obs_to_tensor(obs)
    mean, log_std, kwargs = model.actor.get_action_dist_params(tensors)
    th.manual_seed(0)
    with th.no_grad():
        normal = model.actor.action_dist.proba_distribution(mean, log_std, **kwargs).distribution
        squashed = th.tanh(normal.sample((n,))).double().numpy()
    drawn = model.policy.unscale_action(squashed)
    s_mean, s_std = 0.3, math.exp(0.1)
    # −∇ log N(a; m, s) by m and by log s
    samples = np.concatenate([(s_mean - drawn) / s_std**2, 1 - ((drawn - s_mean) / s_std) ** 2], axis=2)
    error = samples.std(axis=0, ddof=1) / math.sqrt(n)
    assert (np.abs(mine - samples.mean(axis=0)) < 4 * error).all()
    # Control: a Gaussian around tanh(mean), as wide as tanh's slope there makes it, is told apart.
    mode = np.tanh(mean.detach().double().numpy())
    width = normal.stddev.double().numpy() * (1 - mode**2)
    params = th.as_tensor(gaussian(space, mode, width), dtype=th.float32)
    naive = cross_entropy(from_parameters(space, params), from_parameters(space, student)).sum()
    assert (np.abs(th.autograd.grad(naive, student)[0].numpy() - samples.mean(axis=0)) > 10 * error).any()


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [0, 0.0, -0.1, math.nan, math.inf, "wide", [0.1]])
@pytest.mark.parametrize("name", ["td3", "ddpg", "ars, box"])
def test_a_wrong_action_std_is_refused(name, wrong, tmp_path):
    """One ValueError that names the option and the value."""
    with pytest.raises(ValueError, match=r"^action_std .*greater than 0.*not ") as error:
        reload(FAMILIES[name](), tmp_path, action_std=wrong)
    assert repr(wrong) in str(error.value)


@pytest.mark.parametrize("wrong", [0, -0.1, 1.1, math.nan, math.inf, "much", [0.1]])
def test_a_wrong_epsilon_is_refused(wrong, tmp_path):
    """Of a teacher with one action, 0 is wrong too: log π would be infinite."""
    with pytest.raises(ValueError, match=r"epsilon .*(between 0 and 1|greater than 0).*not ") as error:
        reload(FAMILIES["ars, discrete"](), tmp_path, epsilon=wrong)
    assert repr(wrong) in str(error.value)


@pytest.mark.parametrize(
    ("name", "option", "has"),
    [
        ("dqn", {"action_std": 0.1}, " (it has temperature and epsilon)"),
        ("qrdqn", {"action_std": 0.1}, " (it has temperature and epsilon)"),
        ("ppo, box", {"action_std": 0.1}, ""),
        ("ppo, discrete", {"epsilon": 0.1}, ""),
        ("ppo, discrete", {"temperature": 1.0}, ""),
        ("maskable, discrete", {"temperature": 1.0}, ""),
        ("recurrent", {"temperature": 1.0}, ""),
        ("sac", {"action_std": 0.1}, ""),
        ("crossq", {"epsilon": 0.1}, ""),
        ("td3", {"temperature": 1.0}, " (it has action_std)"),
        ("ddpg", {"epsilon": 0.1}, " (it has action_std)"),
        ("ars, box", {"epsilon": 0.1}, " (it has action_std)"),
        ("ars, discrete", {"action_std": 0.1}, " (it has epsilon)"),
        ("ars, discrete", {"temperature": 1.0}, " (it has epsilon)"),
    ],
)
def test_an_option_of_another_family_is_refused(name, option, has, tmp_path):
    """Nobody believes that an option has done something that it has not."""
    model = FAMILIES[name]() if name in FAMILIES else recurrent_model(countdown(BOX))
    path = saved(model, tmp_path)
    ((word, _),) = option.items()
    with pytest.raises(ValueError) as error:
        load_teacher(path, device="cpu", **option)
    message = str(error.value)
    assert re.match(rf"{word} is no option of {re.escape(str(path))}, an? ", message)
    assert message.endswith(f": leave it out{has}.")


@pytest.mark.parametrize(("name", "option", "value"), [("td3", "action_std", 0.3), ("ars, discrete", "epsilon", 0.4)])
def test_options_are_heard(name, option, value, tmp_path):
    """Half the range of an action is the unit of its standard deviation; ε is shared out among all actions."""
    model = FAMILIES[name]()
    teacher = reload(model, tmp_path, **{option: value})
    params = teacher.answer(observations(raw_space(model), n=5)).parameters.double().numpy()
    if option == "action_std":
        half = (LOPSIDED.high - LOPSIDED.low) / 2
        np.testing.assert_allclose(np.exp(params[:, 2:]), np.broadcast_to(0.3 * half, (5, 2)), rtol=1e-6)
    else:
        np.testing.assert_allclose(np.sort(np.exp(params), axis=1), [[0.4 / 3, 0.4 / 3, 0.6 + 0.4 / 3]] * 5, rtol=1e-6)


# --- the order of keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shapes", [{"z": 2, "a": 2}, {"z": 3, "a": 1}], ids=str)
@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_parts_of_an_observation_are_read_in_the_order_that_the_network_was_built_with(algorithm, shapes, tmp_path):
    """Gymnasium sorts the keys of a plain dictionary, and leaves those of an OrderedDict, of pairs and of keywords as they are."""
    space = spaces.Dict([(key, spaces.Box(-1.0, 1.0, (n,), np.float32)) for key, n in shapes.items()])
    assert list(space.spaces) == ["z", "a"]
    model = algorithm("MultiInputPolicy", countdown(spaces.Discrete(3), space), seed=0, device="cpu")
    randomise(model.policy)
    model.save(tmp_path / "agent")
    obs = {key: np.random.default_rng(0).uniform(-1, 1, (16, n)).astype(np.float32) for key, n in shapes.items()}
    live, read = load_teacher(model, tune=False), load_teacher(tmp_path / "agent.zip", tune=False)
    assert list(read.observation_space.spaces) == ["z", "a"]
    if algorithm is DQN:
        th.testing.assert_close(read.q_values(obs), live.q_values(obs), rtol=0, atol=0)
    else:
        answers = [teacher.answer(obs, with_value=True) for teacher in (live, read)]
        th.testing.assert_close(answers[1].parameters, answers[0].parameters, rtol=0, atol=0)
        th.testing.assert_close(answers[1].value, answers[0].value, rtol=0, atol=0)
    np.testing.assert_array_equal(read.act(obs), model.predict(obs, deterministic=True)[0])


def test_a_memory_keeps_the_order_too():
    space = spaces.Dict([(key, spaces.Box(-1.0, 1.0, (2,), np.float32)) for key in ("z", "a")])
    again = space_from_data(json.loads(json.dumps(space_to_data(space))))
    assert list(again.spaces) == ["z", "a"] and again == space
