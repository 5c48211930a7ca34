"""Teachers: found where they are, as soft as asked, and answers that leave nothing behind."""

import math
import os
import re
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from envs_for_tests import ACTION_SPACES, DICT_SPACE, CountdownEnv
from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.find import BUNDLED, find_checkpoint, resolve_env_id, zoo_folders
from sb3_distill.agents.inspection import inspect
from sb3_distill.agents.load import load_teacher
from sb3_distill.rules.distributions import parameters
from sb3_distill.rules.temperature import (
    GRID,
    check_softness,
    soften,
    softest_by_confidence,
    softest_by_loss,
    softest_by_return,
    spread,
)
from sb3_distill.teachers.actor_critic import ActorCriticTeacher
from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.teacher import Answer, Teacher
from sb3_distill.teachers.tuning import tune_temperature

CARTPOLE = BUNDLED / "dqn" / "CartPole-v1_1" / "CartPole-v1.zip"


def observations(space, n=10, seed=0):
    """A batch of random observations."""
    space.seed(seed)
    samples = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([sample[key] for sample in samples]) for key in space.spaces}
    return np.stack(samples)


def ppo(env=None, policy="MlpPolicy", **kwargs):
    """A fresh PPO model with a small network."""
    policy_kwargs = {"net_arch": [8], "ortho_init": False, **kwargs.pop("policy_kwargs", {})}
    settings = {"n_steps": 4, "batch_size": 4, "device": "cpu", "seed": 0, "policy_kwargs": policy_kwargs}
    return PPO(policy, env or CountdownEnv(), **settings | kwargs)


def dqn(env=None, policy="MlpPolicy", **kwargs):
    """A fresh DQN model with a small network."""
    settings = {"buffer_size": 2, "device": "cpu", "seed": 0, "policy_kwargs": {"net_arch": [8]}}
    return DQN(policy, env or CountdownEnv(), **settings | kwargs)


# --- where teachers are found -----------------------------------------------------------------------------------------


@pytest.fixture
def make_agent(tmp_path, monkeypatch):
    """Makes empty agents in folders of the zoo's layout; the environment variable names ``first`` and ``second``."""

    def make(name, files=None):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for file in [folder.name.rpartition("_")[0] + ".zip"] if files is None else files:
            (folder / file).touch()
        return folder

    monkeypatch.setenv(
        "RL_TRAINED_AGENTS", os.pathsep.join(["", str(tmp_path / "first"), str(tmp_path / "second"), ""])
    )
    return make


def test_bundled_agents_come_first(make_agent):
    """What ships with the package is the same on every machine."""
    make_agent("first/dqn/CartPole-v1_7")
    assert find_checkpoint("zoo:dqn/CartPole-v1") == CARTPOLE
    assert CARTPOLE.is_file()


def test_the_first_folder_with_an_agent_wins(make_agent):
    """Several folders, as in PATH: the order decides, not the number of the run."""
    first, second = make_agent("first/ppo/A-v0_1"), make_agent("second/ppo/A-v0_5")
    only_there = make_agent("second/ppo/B-v0_1")
    assert find_checkpoint("zoo:ppo/A-v0") == first / "A-v0.zip"
    assert find_checkpoint("zoo:ppo/B-v0") == only_there / "B-v0.zip"
    assert second not in zoo_folders().values()


def test_the_highest_run_wins(make_agent):
    """Runs are numbers: the tenth follows the ninth."""
    folders = [make_agent(f"first/ppo/A-v0_{run}") for run in (9, 10, 2)]
    make_agent("first/ppo/A-v0_final")
    (folders[0].parent / "A-v0_11").touch()
    assert find_checkpoint("zoo:ppo/A-v0") == folders[1] / "A-v0.zip"
    assert {name for name in zoo_folders() if name.startswith("ppo/")} == {"ppo/A-v0"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dqn/CartPol-v1", "did you mean 'dqn/CartPole-v1'"),
        ("ppo/Walkr-v3", "did you mean 'ppo/Walker-v3'"),
        ("zork", "choose one of dqn/CartPole-v1, .*ppo/Walker-v3"),
    ],
)
def test_unknown_names_come_with_the_nearest(make_agent, name, hint):
    """A slip of the pen is answered with what was meant."""
    make_agent("second/ppo/Walker-v3_1")
    with pytest.raises(FileNotFoundError, match=f"No agent 'zoo:{name}': {hint}") as error:
        load_teacher(f"zoo:{name}")
    assert "RL_TRAINED_AGENTS" not in str(error.value)


def test_without_a_zoo_the_message_says_how_to_have_one(monkeypatch):
    """The bundled agents alone are few."""
    monkeypatch.delenv("RL_TRAINED_AGENTS", raising=False)
    with pytest.raises(FileNotFoundError, match="Set RL_TRAINED_AGENTS to "):
        load_teacher("zoo:ppo/CartPole-v1")


def test_paths(make_agent, tmp_path, monkeypatch):
    """A zip with and without its suffix, a folder, from here or from home."""
    folder = make_agent("home/ppo/A-v0_1")
    (tmp_path / "home" / "lone.zip").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home")
    expected = folder / "A-v0.zip"
    assert find_checkpoint(expected) == find_checkpoint(str(expected)) == expected
    assert find_checkpoint(folder) == find_checkpoint("ppo/A-v0_1") == find_checkpoint("~/ppo/A-v0_1") == expected
    assert find_checkpoint(folder / "A-v0") == expected
    assert find_checkpoint("lone") == tmp_path / "home" / "lone.zip"
    (folder / "A-v0").mkdir()
    assert find_checkpoint(folder / "A-v0") == expected, "the zoo keeps an agent's settings in a folder of that name"
    monkeypatch.chdir(folder)
    assert find_checkpoint(".") == expected


def test_the_last_model_comes_before_the_best(make_agent):
    """The zoo's own tools enjoy ENV.zip unless they are told otherwise."""
    both = make_agent("first/ppo/A-v0_1", ["A-v0.zip", "best_model.zip"])
    best = make_agent("first/ppo/B-v0_1", ["best_model.zip"])
    assert find_checkpoint(both).name == "A-v0.zip"
    assert find_checkpoint(best).name == "best_model.zip"
    none = make_agent("first/ppo/C-v0_1", ["notes.txt"])
    for source in (none, "zoo:ppo/C-v0"):
        with pytest.raises(FileNotFoundError, match=r"C-v0_1: it has neither C-v0\.zip nor best_model\.zip"):
            load_teacher(source)


def test_nothing_there(tmp_path):
    """The message repeats what was given and says what could be."""
    with pytest.raises(
        FileNotFoundError, match=r"No teacher at '.*/none': give a path to an SB3 zip or folder, or a name"
    ):
        load_teacher(tmp_path / "none")


def test_environments_go_by_their_newest_name(monkeypatch):
    """An agent of an old version plays today's, and its user is told."""
    with pytest.warns(UserWarning, match=r"LunarLander-v2 is now LunarLander-v3"):
        assert resolve_env_id("LunarLander-v2") == "LunarLander-v3"
    monkeypatch.setitem(gym.registry, "SB3DistillNewest-v9", None)
    monkeypatch.setitem(gym.registry, "SB3DistillNewest-v10", None)
    with pytest.warns(UserWarning):
        assert resolve_env_id("SB3DistillNewest-v1") == "SB3DistillNewest-v10"


@pytest.mark.parametrize("env_id", ["CartPole-v1", "CartPole-v0", "Nowhere-v1", "Nowhere", "Nowhere-vv"])
def test_other_names_stay(env_id):
    """Registered ids and unknown ones are left alone, silently."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_env_id(env_id) == env_id


@pytest.mark.zoo
def test_the_zoos_lunar_lander(zoo):
    """A name of the zoo, from RL_TRAINED_AGENTS to an environment that can be made."""
    with pytest.warns(UserWarning, match=r"LunarLander-v2 is now LunarLander-v3"):
        teacher = load_teacher("zoo:qrdqn/LunarLander-v2", temperature=1.0)
    assert (teacher.env_id, teacher.name) == ("LunarLander-v3", "qrdqn/LunarLander-v2")


def test_the_folder_tells_the_environment(monkeypatch):
    """From wherever the path starts; a lone zip tells nothing."""
    for folder, source in (
        (CARTPOLE.parent, "."),
        (CARTPOLE.parents[1], "CartPole-v1_1"),
        (BUNDLED, "dqn/CartPole-v1_1"),
    ):
        monkeypatch.chdir(folder)
        teacher = load_teacher(source, temperature=1.0)
        assert (teacher.env_id, teacher.name) == ("CartPole-v1", "dqn/CartPole-v1")


# --- models as teachers -----------------------------------------------------------------------------------------------


def test_a_loaded_dqn():
    """A model that SB3 loaded answers as its file does; its network is shared, not copied."""
    model = DQN.load(CARTPOLE, device="cpu")
    teacher, expected = load_teacher(model, temperature=2.0), load_teacher(CARTPOLE, temperature=2.0, device="cpu")
    assert teacher.policy is model.policy
    assert isinstance(teacher, QTeacher)
    obs = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    for mine, theirs in zip(teacher.answer(obs, True), expected.answer(obs, True), strict=True):
        assert th.equal(mine, theirs)
    np.testing.assert_array_equal(teacher.act(obs), model.predict(obs, deterministic=True)[0])
    assert teacher.n_parameters == 4 * 256 + 256 + 256 * 256 + 256 + 256 * 2 + 2


def test_a_model_tells_its_environment():
    """Where it does, a temperature can be tuned there; where it does not, the caller may."""
    assert load_teacher(dqn("CartPole-v1"), temperature=1.0).env_id == "CartPole-v1"
    assert load_teacher(dqn(), temperature=1.0).env_id is None
    assert load_teacher(dqn(), temperature=1.0, env_id="CartPole-v1").env_id == "CartPole-v1"


def test_a_model_under_vecnormalize():
    """Normalisation is copied as it stands: a run that goes on does not move the teacher."""
    env = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]), clip_obs=2.0, epsilon=1e-3)
    model = ppo(env)
    model.learn(64)
    teacher = load_teacher(model)
    obs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    normalized = env.normalize_obs(obs)
    scale = np.sqrt(env.ret_rms.var + env.epsilon)
    assert abs(scale - 1) > 0.1
    answer = teacher.answer(obs, with_value=True)
    with th.no_grad():
        expected = parameters(model.policy.get_distribution(th.as_tensor(normalized)))
        values = model.policy.predict_values(th.as_tensor(normalized)).flatten() * scale
    assert th.equal(answer.parameters, expected)
    th.testing.assert_close(answer.value, values.float())

    env.obs_rms.mean += 0.1  # in place
    env.obs_rms.var *= 2
    env.reset()
    for _ in range(20):
        env.step(np.ones((1, 1)))
    assert not np.array_equal(env.normalize_obs(obs), normalized), "the wrapper has moved on"
    again = teacher.answer(obs, with_value=True)
    assert th.equal(again.parameters, answer.parameters)
    assert th.equal(again.value, answer.value)


@pytest.mark.parametrize("keys", [["b"], ["a", "b"]])
def test_a_model_under_vecnormalize_of_dicts(keys):
    """Of Dict observations, only the parts that were normalised are; the caller's arrays stay as they are."""
    env = VecNormalize(DummyVecEnv([lambda: CountdownEnv(DICT_SPACE)]), norm_obs_keys=keys)
    model = ppo(env, "MultiInputPolicy")
    model.learn(32)
    obs = observations(DICT_SPACE)
    before = {key: value.copy() for key, value in obs.items()}
    normalized = dict(obs)
    for key in keys:
        rms = env.obs_rms[key]
        normalized[key] = ((obs[key] - rms.mean) / np.sqrt(rms.var + env.epsilon)).astype(np.float32)
        assert np.abs(normalized[key] - obs[key]).max() > 0.01
    mine = load_teacher(model).answer(obs).parameters
    with th.no_grad():
        tensors = {key: th.as_tensor(value) for key, value in normalized.items()}
        assert th.equal(mine, parameters(model.policy.get_distribution(tensors)))
    for key in before:
        np.testing.assert_array_equal(obs[key], before[key])


@pytest.mark.parametrize(("norm_obs", "norm_reward"), [(True, False), (False, True)])
def test_half_a_vecnormalize(norm_obs, norm_reward):
    """Running statistics that the wrapper keeps but does not use are not used here either."""
    env = VecNormalize(DummyVecEnv([CountdownEnv]), norm_obs=norm_obs, norm_reward=norm_reward, epsilon=0.5)
    model = ppo(env)
    model.learn(32)
    teacher = load_teacher(model)
    assert (teacher.normalize_obs is not None) == norm_obs
    assert teacher.value_scale == (pytest.approx(np.sqrt(env.ret_rms.var + env.epsilon)) if norm_reward else 1.0)


def test_models_that_cannot_teach():
    """A policy of no family that is known here: what it answers could only be guessed."""
    model = dqn()
    model.policy = model.policy.q_net
    with pytest.raises(CheckpointError, match=r"Cannot learn from DQN model: its policy is a QNetwork, and known"):
        load_teacher(model)


def test_a_teacher_is_its_own_teacher():
    """Whoever takes sources takes teachers too."""
    teacher = load_teacher(ppo())
    assert load_teacher(teacher) is teacher


def test_loading_leaves_the_random_state_alone():
    """A network is first filled with random numbers: a run must not depend on whether its teacher came from a file."""
    state = th.get_rng_state()
    load_teacher(CARTPOLE, temperature=1.0)
    assert th.equal(th.get_rng_state(), state)


# --- how soft a Q-network is ------------------------------------------------------------------------------------------


def softened(q_values, temperature, epsilon):
    """log[(1−ε) softmax(Q/τ) + ε/|A|], as it is written."""
    scaled = np.asarray(q_values, np.float64) / temperature
    scaled -= scaled.max(-1, keepdims=True)
    log_softmax = scaled - np.log(np.exp(scaled).sum(-1, keepdims=True))
    if epsilon == 0:
        return log_softmax
    return np.log((1 - epsilon) * np.exp(log_softmax) + epsilon / scaled.shape[-1])


@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [0.05, 1.0, 40.0])
def test_soften_is_its_formula(temperature, epsilon):
    """Against the same formula in numpy."""
    q_values = np.random.default_rng(0).normal(3.0, 5.0, (50, 4))
    result = soften(th.as_tensor(q_values), temperature, epsilon)
    np.testing.assert_allclose(result.numpy(), softened(q_values, temperature, epsilon), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(result.exp().sum(-1).numpy(), 1.0, rtol=1e-12)


@pytest.mark.parametrize("epsilon", [0.0, 0.01, 1.0])
def test_soften_stays_finite(epsilon):
    """Q-values of a million over the smallest temperature; ε bounds the log-probabilities at log(ε/|A|)."""
    q_values = th.tensor([[1e6, 0.0, -1e6], [-1e6, -1e6, -1e6]])
    result = soften(q_values, GRID[0], epsilon)
    assert result.isfinite().all()
    np.testing.assert_allclose(result.exp().sum(-1).numpy(), 1.0, rtol=1e-6)
    if epsilon > 0:
        assert float(result.min()) == pytest.approx(math.log(epsilon / 3), rel=1e-6)


@pytest.mark.parametrize(
    "make", [lambda **soft: load_teacher(CARTPOLE, **soft), lambda **soft: QTeacher(dqn().policy, **soft)]
)
@pytest.mark.parametrize(
    "wrong",
    [{"temperature": t} for t in (0.0, -1.5, math.nan, math.inf)] + [{"epsilon": e} for e in (-0.1, 1.1, math.nan)],
)
def test_impossible_softness(make, wrong):
    """The message repeats the value."""
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"^{name} must .* not {re.escape(repr(value))}\.$"):
        make(**{"temperature": 1.0} | wrong)


@pytest.mark.parametrize(("temperature", "epsilon"), [(None, 0), (1e-9, 0.0), (1e9, 1.0), (1, 1)])
def test_extreme_softness_is_possible(temperature, epsilon):
    """The ends of the ranges belong to them, or do not, as documented."""
    check_softness(temperature, epsilon)


@pytest.mark.parametrize("temperature", ["hot", None, [1.0]])
def test_a_temperature_is_a_number_or_auto(temperature):
    """Anything else is no way of choosing one."""
    with pytest.raises(ValueError, match=r"temperature must be a number greater than 0 or 'auto', not "):
        load_teacher(CARTPOLE, temperature=temperature)


@pytest.mark.parametrize("soft", [{"temperature": 1.0}, {"epsilon": 0.0}, {"epsilon": 0.1}])
def test_actor_critics_have_no_softness(soft):
    """They bring their own distribution: a temperature that does nothing would mislead."""
    with pytest.raises(
        ValueError, match=r"(temperature|epsilon) is no option of PPO model, an ActorCriticTeacher: leave it out"
    ):
        load_teacher(ppo(), **soft)


def test_the_default_epsilon():
    """As documented, 0.01; a given 0 is not taken for the default."""
    assert load_teacher(CARTPOLE, temperature=1.0).epsilon == 0.01
    assert load_teacher(CARTPOLE, temperature=1.0, epsilon=0.0).epsilon == 0.0


@pytest.mark.parametrize("value_scale", [1.0, 3.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_q_teachers_are_their_formula(epsilon, value_scale):
    """π(a|s) = (1−ε) softmax(Q/τ) + ε/|A| and V = Σ_a π(a|s) Q(s,a), in units of the environment's reward."""
    teacher = load_teacher(CARTPOLE, temperature=0.5, epsilon=epsilon, device="cpu")
    teacher.value_scale = value_scale
    obs = np.random.default_rng(0).normal(0, 0.1, (50, 4)).astype(np.float32)
    with th.no_grad():
        q_values = value_scale * teacher.policy.q_net(th.as_tensor(obs)).double().numpy()
    expected = softened(q_values, 0.5, epsilon)
    answer = teacher.answer(obs, with_value=True)
    np.testing.assert_allclose(teacher.q_values(obs).numpy(), q_values, rtol=1e-6)
    np.testing.assert_allclose(answer.parameters.numpy(), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(answer.value.numpy(), (np.exp(expected) * q_values).sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(teacher.act(obs), q_values.argmax(-1))
    assert 0 < np.mean(q_values.argmax(-1)) < 1, "both actions take part"


def test_a_qrdqn_model():
    """Q is the mean over quantiles."""
    model = QRDQN(
        "MlpPolicy", CountdownEnv(), buffer_size=2, device="cpu", policy_kwargs={"n_quantiles": 7, "net_arch": [8]}
    )
    obs = observations(model.observation_space)
    q_values = load_teacher(model, temperature=1.0).q_values(obs)
    with th.no_grad():
        quantiles = model.policy.quantile_net(th.as_tensor(obs))
    assert quantiles.shape == (10, 7, 3)
    np.testing.assert_allclose(q_values.numpy(), quantiles.double().mean(1).numpy(), rtol=1e-5, atol=1e-6)


class Player:
    """Plays with known returns, and remembers at which temperatures it was asked to; after so many plays there is no time."""

    def __init__(self, soft, limit=100):
        self.soft, self.limit, self.asked = soft, limit, []

    def __call__(self, temperature):
        if len(self.asked) == self.limit:
            return None
        self.asked.append(temperature)
        return np.array(self.soft(temperature), dtype=np.float64)


def below(limit, good, bad):
    """Returns that drop above a temperature."""
    return lambda temperature: good if temperature <= limit else bad


def search(player, greedy, start=1.0, unit=1.0):
    return softest_by_return(np.array(greedy, dtype=np.float64), player, unit, start)


def test_a_difference_that_only_scatter_excuses_is_said():
    """Of 78.3 and −21.7 six episodes prove nothing: what was chosen says so."""
    greedy = [200.0, -100.0, 250.0, 20.0, -50.0, 150.0]
    choice = search(Player(lambda _: np.array(greedy) - [300, -60, 250, -40, 20, 130]), greedy)
    assert choice.doubt is None
    assert choice.report.endswith("return -21.7, greedy ones 78.3, a difference that 6 episodes do not tell from none")
    assert "do not tell" not in search(Player(below(1.0, greedy, greedy)), greedy).report


def test_the_grid():
    """As documented: powers of √10 from 1e-6 to 1e2, in ascending order."""
    np.testing.assert_allclose(GRID, 10 ** np.arange(-6, 2.25, 0.5), rtol=1e-12)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 3e5])
@pytest.mark.parametrize("expected", range(len(GRID)))
def test_the_softest_that_plays_as_greedy(expected, unit):
    """From where the search begins, up while it will do or down until it does; nothing is played twice."""
    start = 8
    player = Player(below(GRID[expected] * unit * 1.01, [100.0] * 4, [50.0] * 4))
    choice = search(player, [100.0] * 4, GRID[start] * unit, unit)
    if expected >= start:
        assert choice.temperature == pytest.approx(GRID[expected] * unit)
    else:  # the colder, the longer the strides: 1, 2, 4 …
        assert choice.temperature in [pytest.approx(GRID[k] * unit) for k in (7, 5, 1, 0)]
        assert choice.temperature <= GRID[expected] * unit * 1.01
    assert choice.doubt is None
    assert len(set(player.asked)) == len(player.asked) <= 10


@pytest.mark.parametrize(
    ("greedy", "soft", "will_do"),
    [
        (100.0, 98.0, True),
        (100.0, 97.9, False),
        (100.0, 150.0, True),
        (-100.0, -102.0, True),
        (-100.0, -102.1, False),
        (-100.0, -50.0, True),
        (0.0, 0.0, True),
        (0.0, -0.1, False),
    ],
)
def test_two_percent_of_the_magnitude(greedy, soft, will_do):
    """What may be lost is a share of the greedy return's magnitude, whatever its sign."""
    choice = search(Player(below(0.5, [greedy] * 5, [soft] * 5)), [greedy] * 5)
    assert choice.temperature == pytest.approx(GRID[-1] if will_do else 10**-0.5)


@pytest.mark.parametrize(
    ("shortfall", "will_do"),
    [
        ([-4.0, 24.0], True),
        ([4.9, 15.1], True),  # mean 10, standard error 5.1
        ([5.1, 14.9], False),  # mean 10, standard error 4.9
        ([9.0, 11.0], False),
        ([10.0] * 6, False),
    ],
)
def test_a_shortfall_counts_at_two_standard_errors(shortfall, will_do):
    """The spread is that of the paired differences: episodes that scatter alike under both players say nothing."""
    greedy = 100.0 + 80.0 * np.linspace(-1, 1, len(shortfall))
    player = Player(below(0.5, greedy, greedy - shortfall), limit=2)
    assert search(player, greedy).temperature == pytest.approx(1.0 if will_do else 10**-0.5)


@pytest.mark.parametrize(
    ("shortfall", "will_do"),
    [
        ([-8.1, 12.1], True),  # mean 2
        ([-8.0, 12.2], False),  # 2.1, though two standard errors are 20
    ],
)
def test_a_softer_one_has_to_show_more(shortfall, will_do):
    """Against what is softer than where the search began every shortfall counts that is larger than 2%."""
    greedy = np.array([20.0, 180.0])
    choice = search(Player(below(1.5, greedy, greedy - shortfall)), greedy)
    assert choice.temperature == pytest.approx(GRID[-1] if will_do else 1.0)


@pytest.mark.parametrize(
    ("shortfall", "is_doubtful"), [([5.1, 14.9], True), ([4.9, 15.1], False), ([10.0] * 3, True), ([1.9] * 3, False)]
)
def test_worse_than_greedy_is_a_doubt_with_both_returns(shortfall, is_doubtful):
    """By two standard errors of what was played (of 4.9 and 5.1 about a mean of 10), or 2% where nothing scatters."""
    choice = search(Player(lambda _: 100.0 - np.array(shortfall)), [100.0] * len(shortfall))
    assert (choice.doubt is not None) == is_doubtful
    if is_doubtful:
        assert "return 90.0, greedy ones 100.0" in choice.doubt


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_the_coldest_that_was_played_if_none_will_do(limit):
    """The report tells what it costs, and so does the doubt."""
    player = Player(lambda temperature: [10.0] * 3, limit)
    choice = search(player, [100.0] * 3)
    assert choice.temperature == pytest.approx({1: 1.0, 2: 10**-0.5, 100: GRID[0]}[limit])
    assert choice.report == (
        f"auto: actions drawn at temperature {choice.temperature:.3g} return 10.0, greedy ones 100.0"
    )
    assert choice.doubt.startswith(choice.report[6:])


def test_without_time_for_a_play_there_is_no_choice():
    with pytest.raises(TimeoutError):
        search(Player(lambda temperature: [10.0] * 3, limit=0), [100.0] * 3)


def test_small_returns_are_told_with_their_digits():
    """0.0 and 0.0 would tell nobody anything."""
    assert "return 0.00123, greedy ones 0.00123" in search(Player(lambda _: [0.001234] * 3), [0.001234] * 3).report


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        # Two actions, a gap g: their spread is g/2, and the greedy one's probability is 0.9 at τ = g/2.197 = 0.910 · g/2.
        ([2.2], 10**-0.5 * 1.1),
        ([-220.0], 10**-0.5 * 110),
        ([1e-4], 10**-0.5 * 5e-5),
        ([1.0, 100.0], None),
        ([1e3, 0.0], GRID[0] * math.sqrt(0.5) * 500),  # 0.75 on average, however cold
        ([1e3, 1e3, 1e3, 1e3, 1e3, 0.0], None),  # 0.9166
    ],
)
def test_the_softest_that_is_sure(gaps, expected):
    """By the greedy action's mean probability over the batch, on a grid in units of the spread."""
    q_values = th.tensor([[gap + 7.0, 7.0] for gap in gaps], dtype=th.float64)
    unit = math.sqrt(np.mean(np.square(gaps)) / 4)

    def mean(temperature):
        return np.mean([1 / (1 + math.exp(-min(abs(gap) / temperature, 700))) for gap in gaps])

    brute = max((g * unit for g in GRID if mean(g * unit) >= 0.9), default=GRID[0] * unit)
    choice = softest_by_confidence(q_values)
    assert choice.temperature == pytest.approx(brute) == pytest.approx(expected or brute)
    assert choice.report.endswith(f" over {len(gaps)} observations")
    assert (choice.doubt is not None) == (mean(brute) < 0.9)


@pytest.mark.parametrize("share", [0.5, 1 / 80, 1e-4])
def test_where_the_search_begins(share):
    """The largest τ at which what drawn actions give away, max Q − E Q, is a share of what uniform ones do."""
    q = np.random.default_rng(0).normal(size=(50, 4)) ** 3
    unit = np.sqrt(((q - q.mean(1, keepdims=True)) ** 2).mean())

    def lost(temperature):
        p = np.exp(softened(q, temperature, 0.0))
        return (q.max(1) - (p * q).sum(1)).mean() / (q.max(1) - q.mean(1)).mean()

    expected = max(g * unit for g in GRID if lost(g * unit) <= share)
    assert softest_by_loss(th.as_tensor(q), share) == pytest.approx(expected)


@pytest.mark.parametrize("offset", [0.0, -300.0, 1e4])
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_the_unit_of_the_reward_does_not_matter(scale, offset):
    """Q → cQ + b gives the same policy, by each choice. Offsets are in the spread's units: with 1e4 of them, float32 keeps three digits."""
    q = th.as_tensor(np.random.default_rng(1).normal(size=(400, 3)).astype(np.float32))
    other = scale * (q + offset)
    rounding = 1e-7 * (1 + abs(offset))
    for choose in (lambda x: softest_by_confidence(x).temperature, softest_by_loss, spread):
        assert choose(other) == pytest.approx(scale * choose(q), rel=100 * rounding)
    ours, theirs = (soften(x, softest_by_confidence(x).temperature, 0.01) for x in (q, other))
    np.testing.assert_allclose(theirs.exp().numpy(), ours.exp().numpy(), atol=100 * rounding)


def test_a_large_offset_costs_no_more_than_its_rounding():
    """Q + 2^20 is exact for these Q; divided by τ first, it would not be."""
    q = th.as_tensor(np.random.default_rng(2).integers(-8, 8, (200, 4)) / 8, dtype=th.float32)
    assert th.equal(soften(q + 2.0**20, 0.003, 0.01), soften(q, 0.003, 0.01))
    teacher = QTeacher(dqn().policy, temperature=0.003)
    teacher._q_values = lambda obs: obs
    value = teacher._answer(q + 2.0**20, with_value=True).value
    expected = (np.exp(softened(q, 0.003, 0.0)) * q.double().numpy()).sum(1) + 2.0**20
    np.testing.assert_allclose(value.double().numpy(), expected, atol=0.07)  # the spacing of float32 there is 0.125


def test_one_action_and_equal_ones():
    """The first is all there is to do, the second says that something is wrong."""
    assert softest_by_confidence(th.ones(5, 1)) == (1.0, "auto: there is one action, whatever the temperature", None)
    choice = softest_by_confidence(th.ones(5, 3))
    assert choice.temperature == 1.0 and "is it trained?" in choice.doubt


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_teacher_without_numbers_is_an_error(wrong):
    """And no temperature."""
    teacher = load_teacher(dqn())
    teacher.policy.q_net.q_net[-1].bias.data[0] = wrong
    with pytest.raises(ValueError, match="NaN or infinity: are its weights damaged"):
        teacher.answer(observations(teacher.observation_space, n=300))


def test_without_an_environment_the_first_observations_decide():
    """Once and for all: a teacher that changed its mind would be another one in the second rollout."""
    teacher = load_teacher(dqn())
    assert (teacher.temperature, teacher.temperature_report) == (None, "not chosen yet")
    obs = observations(teacher.observation_space, n=300)
    expected = softest_by_confidence(teacher.q_values(obs))[:2]
    assert teacher.temperature is None, "asking for Q-values decides nothing"
    first = teacher.answer(obs).parameters
    assert (teacher.temperature, teacher.temperature_report) == expected
    np.testing.assert_allclose(first.numpy(), softened(teacher.q_values(obs), expected[0], 0.01), rtol=1e-4, atol=1e-5)
    teacher.policy.q_net.q_net[-1].weight.data *= 1_000
    assert softest_by_confidence(teacher.q_values(obs)).temperature != expected[0]
    teacher.answer(obs)
    assert (teacher.temperature, teacher.temperature_report) == expected


def test_few_observations_at_a_time_decide_together():
    """With teacher control there are as many as environments: their number has to come to 256."""
    teacher = load_teacher(dqn())
    obs = observations(teacher.observation_space, n=300)
    chosen = []
    for start in range(0, 300, 3):
        teacher.answer(obs[start : start + 3])
        chosen.append(teacher.temperature_report)
    assert [int(re.search(r"over (\d+) observations", report).group(1)) for report in dict.fromkeys(chosen)] == [
        *(3, 6, 12, 24, 48, 96, 192),
        258,
    ]
    together = softest_by_confidence(teacher.q_values(obs[:258]))
    assert teacher.temperature == pytest.approx(together.temperature)


@pytest.fixture(scope="module")
def tuned():
    """The bundled agent with a temperature of its own, and the global random states before and after."""
    th.manual_seed(1)
    np.random.seed(1)
    before = th.get_rng_state(), np.random.get_state()[1].copy()
    teacher = load_teacher("zoo:dqn/CartPole-v1", device="cpu")
    return teacher, before, (th.get_rng_state(), np.random.get_state()[1].copy())


def test_auto_says_what_it_costs(tuned):
    """CartPole's agent is greedy at 500; the report has both returns."""
    teacher, _, _ = tuned
    pattern = r"auto: actions drawn at temperature (\S+) return (\S+), greedy ones 500\.0 \(6 episodes of CartPole-v1\)"
    temperature, soft = re.fullmatch(pattern, teacher.temperature_report).groups()
    assert float(temperature) == pytest.approx(teacher.temperature, rel=1e-2)
    assert float(soft) >= 490.0


def test_auto_leaves_the_random_states_alone(tuned):
    """The student's run is the same with a temperature that was given and one that was found."""
    _, before, after = tuned
    assert th.equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])


def test_tuning_is_repeatable_and_without_epsilon():
    """Neither the random state nor the teacher's ε takes part; episodes are cut where they are told to be."""
    reports = []
    for seed, epsilon in ((0, 0.0), (1, 1.0)):
        th.manual_seed(seed)
        np.random.seed(seed)
        teacher = load_teacher(CARTPOLE, temperature=7.0, epsilon=epsilon, device="cpu")
        assert teacher.temperature_report == "given"
        tune_temperature(teacher, n_episodes=5, max_steps=70)
        reports.append((teacher.temperature, teacher.temperature_report))
    assert reports[0] == reports[1]
    assert "greedy ones 70.0 (5 episodes of CartPole-v1)" in reports[0][1]
    assert reports[0][0] < GRID[-1], "random play falls within 70 steps"


@pytest.mark.parametrize(
    ("settings", "tuned_in"),
    [
        ({"temperature": 1.0}, None),
        ({}, "CartPole-v1"),
        ({"env_id": "CartPole-v0"}, "CartPole-v0"),
    ],
)
def test_where_a_temperature_is_tuned(monkeypatch, settings, tuned_in):
    """In the teacher's environment, or the one it is told, if no temperature is given."""
    calls = []
    monkeypatch.setattr("sb3_distill.agents.load.known_choice", lambda teacher: None)
    monkeypatch.setattr("sb3_distill.agents.load.tune_temperature", lambda *args: calls.append(args))
    teacher = load_teacher(CARTPOLE, **settings)
    assert calls == ([(teacher, 6)] if tuned_in else [])
    assert not tuned_in or teacher.env_id == tuned_in
    calls.clear()
    assert load_teacher(CARTPOLE, tune=False, **settings).temperature == settings.get("temperature")
    assert not calls


def test_a_temperature_is_tuned_in_an_atari_game_too(monkeypatch, tmp_path):
    """By its own games, as the zoo plays them."""
    pytest.importorskip("ale_py")
    from sb3_distill.envs.atari import make_atari_vec_env

    model = DQN("CnnPolicy", make_atari_vec_env("Pong", 1), buffer_size=1, device="cpu", seed=0)
    model.save(tmp_path / "agent")
    played = []

    def tune(teacher, n_episodes):
        env = teacher.training_env(2)
        played.append((env.reset().shape, n_episodes))
        env.close()

    monkeypatch.setattr("sb3_distill.agents.load.tune_temperature", tune)
    load_teacher(tmp_path / "agent.zip", env_id="PongNoFrameskip-v4")
    assert played == [((2, 4, 84, 84), 6)]


# --- answers ----------------------------------------------------------------------------------------------------------


class Dropping(FlattenExtractor):
    """Answers at random while the policy is in training mode."""

    def forward(self, observations):
        return th.nn.functional.dropout(super().forward(observations), 0.5, self.training)


TEACHERS = {
    **{
        name: lambda space=space: load_teacher(ppo(CountdownEnv(action_space=space)))
        for name, space in ACTION_SPACES.items()
    },
    "gsde": lambda: load_teacher(ppo(CountdownEnv(action_space=ACTION_SPACES["box"]), use_sde=True)),
    "dict": lambda: load_teacher(ppo(CountdownEnv(DICT_SPACE), "MultiInputPolicy")),
    "image": lambda: load_teacher(ppo(FakeImageEnv(2, 36, 40, 3), "CnnPolicy")),
    "dropout": lambda: load_teacher(ppo(policy_kwargs={"features_extractor_class": Dropping})),
    "dqn": lambda: load_teacher(dqn(), temperature=1.0),
    "dqn, dict": lambda: load_teacher(dqn(CountdownEnv(DICT_SPACE), "MultiInputPolicy"), temperature=1.0),
    "dqn, image": lambda: load_teacher(dqn(FakeImageEnv(2, 36, 40, 3), "CnnPolicy"), temperature=1.0),
}
N_COLUMNS = {"discrete": 3, "multi_discrete": 5, "multi_binary": 3, "box": 4, "gsde": 4, "image": 2, "dqn, image": 2}


@pytest.fixture(params=TEACHERS)
def asked(request):
    """A teacher, its kind, and a function that makes batches of observations as its environment gives them."""
    teacher = TEACHERS[request.param]()
    teacher.value_scale = 2.5
    space = teacher.observation_space
    if "image" in request.param:
        space = FakeImageEnv(2, 36, 40, 3).observation_space
        assert space.shape == (36, 40, 3)
    return teacher, request.param, lambda n=10, seed=0: observations(space, n, seed)


def tensors(teacher, obs):
    """Observations as the network takes them."""
    if isinstance(obs, dict):
        return {key: th.as_tensor(value) for key, value in obs.items()}
    return th.as_tensor(obs.transpose(0, 3, 1, 2).copy() if obs.ndim == 4 else obs)


def test_answers_are_the_networks(asked):
    """Parameters and values of the wrapped policy, the latter scaled; images come channels last."""
    teacher, kind, make_obs = asked
    obs = make_obs()
    answer = teacher.answer(obs, with_value=True)
    teacher.policy.set_training_mode(False)
    with th.no_grad():
        if kind.startswith("dqn"):
            q_values = 2.5 * teacher.policy.q_net(tensors(teacher, obs)).double().numpy()
            expected = th.as_tensor(softened(q_values, 1.0, 0.01)).float()
            values = th.as_tensor((np.exp(softened(q_values, 1.0, 0.01)) * q_values).sum(-1)).float()
            th.testing.assert_close(answer.parameters, expected)
        else:
            expected = parameters(teacher.policy.get_distribution(tensors(teacher, obs)))
            values = 2.5 * teacher.policy.predict_values(tensors(teacher, obs)).flatten()
            th.testing.assert_close(answer.parameters, expected)
    th.testing.assert_close(answer.value, values)
    assert answer.parameters.shape == (10, N_COLUMNS.get(kind, 3))
    assert answer.value.shape == (10,)
    assert len(answer.parameters.unique(dim=0)) > 1, "the states make a difference"
    assert th.equal(teacher.value(obs), answer.value)
    assert teacher.answer(obs).value is None
    th.testing.assert_close(teacher.answer(obs).parameters, answer.parameters)
    actions = teacher.act(obs)
    assert all(teacher.action_space.contains(action) for action in actions.astype(teacher.action_space.dtype))


def test_answers_carry_no_gradients(asked):
    """Even where the caller's code does."""
    teacher, _, make_obs = asked
    with th.enable_grad():
        answer = teacher.answer(make_obs(), with_value=True)
        assert not answer.parameters.requires_grad
        assert not answer.value.requires_grad
        assert not parameters(teacher.distribution(make_obs())).requires_grad
        assert not teacher.value(make_obs()).requires_grad
        if isinstance(teacher, QTeacher):
            assert not teacher.q_values(make_obs()).requires_grad


def test_answers_are_in_evaluation_mode(asked):
    """A model that SB3 just trained is in training mode: dropout and batch normalisation must not answer."""
    teacher, kind, make_obs = asked
    obs = make_obs()
    teacher.policy.set_training_mode(False)
    expected = teacher.answer(obs, with_value=True)
    teacher.policy.set_training_mode(True)
    if kind == "dropout":
        draws = [teacher.policy.predict_values(tensors(teacher, obs)) for _ in range(2)]
        assert not th.equal(*draws), "control: training mode would show"
    answer = teacher.answer(obs, with_value=True)
    assert not teacher.policy.training
    assert th.equal(answer.parameters, expected.parameters)
    assert th.equal(answer.value, expected.value)


def test_answers_outlive_the_next_call(asked):
    """SB3's policies keep one distribution object and overwrite it."""
    teacher, _, make_obs = asked
    first = teacher.answer(make_obs(seed=0), with_value=True)
    distribution = teacher.distribution(make_obs(seed=0))
    kept = first.parameters.clone(), first.value.clone(), parameters(distribution).clone()
    second = teacher.answer(make_obs(seed=1), with_value=True)
    assert not th.equal(second.parameters, first.parameters)
    assert teacher.distribution(make_obs(seed=1)) is not distribution
    for mine, expected in zip((first.parameters, first.value, parameters(distribution)), kept, strict=True):
        assert th.equal(mine, expected)


def test_answers_leave_the_random_state_alone(asked):
    """A student's run depends on torch's and numpy's global states."""
    teacher, _, make_obs = asked
    obs = make_obs()
    torch_state, numpy_state = th.get_rng_state(), np.random.get_state()[1].copy()
    teacher.answer(obs, with_value=True)
    teacher.answer(obs)
    teacher.act(obs)
    assert th.equal(th.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize("with_value", [True, False])
@pytest.mark.parametrize(("n", "chunk", "sizes"), [(10, 3, [4, 4, 2]), (10, 5, [5, 5]), (4, 1_024, [4])])
def test_chunks_make_the_same_answer(asked, monkeypatch, with_value, n, chunk, sizes):
    """In order, all of them, about a chunk at a time: a remainder is shared out."""
    teacher, _, make_obs = asked
    obs = make_obs(n)
    expected = teacher.answer(obs, with_value)
    seen, ask = [], teacher.answer

    def counting(part, *args):
        answer = ask(part, *args)
        seen.append(len(answer.parameters))
        return answer

    monkeypatch.setattr(teacher, "answer", counting)
    answer = teacher.answer_in_chunks(obs, with_value, chunk)
    assert seen == sizes
    # Not equal to the last bit: a product of matrices sums in an order that depends on their size.
    th.testing.assert_close(answer.parameters, expected.parameters)
    if with_value:
        th.testing.assert_close(answer.value, expected.value)
    else:
        assert answer.value is None


class Silent(Teacher):
    """A teacher without a value function."""

    has_value = False

    def _answer(self, obs, with_value):
        return Answer(th.zeros(len(obs), 3), None)


def test_a_teacher_without_values_says_so():
    """By name, and with what to use instead."""
    teacher = Silent(ppo().policy, name="the silent one")
    obs = observations(teacher.observation_space)
    assert teacher.answer(obs).value is None
    with pytest.raises(ValueError, match=r"The teacher the silent one has no value function: use a teacher with"):
        teacher.value(obs)


def test_the_size_of_the_actor():
    """What a student is compared with is the part that acts, without critic or target network."""
    assert load_teacher(dqn(), temperature=1.0).n_parameters == 3 * 8 + 8 + 8 * 3 + 3
    actor_critic = load_teacher(ppo(policy_kwargs={"net_arch": {"pi": [8], "vf": [64]}}))
    assert isinstance(actor_critic, ActorCriticTeacher)
    assert actor_critic.n_parameters == 3 * 8 + 8 + 8 * 3 + 3


@pytest.mark.parametrize("source", ["model", "policy", "file"])
def test_squashed_actions_are_refused_when_the_teacher_is_loaded(source, tmp_path):
    """And not when it is asked first. What is inspected says why it cannot teach."""
    model = PPO("MlpPolicy", "Pendulum-v1", use_sde=True, policy_kwargs=dict(squash_output=True), device="cpu")
    model.save(tmp_path / "squashed.zip")
    given = {"model": model, "policy": model.policy, "file": tmp_path / "squashed.zip"}[source]
    with pytest.raises(ValueError, match=r"^Cannot learn from .*: its actions are squashed, .* squash_output=False\.$"):
        load_teacher(given)
    about = inspect(tmp_path / "squashed.zip")
    assert about.teacher is None and about.problem.startswith("its actions are squashed")
