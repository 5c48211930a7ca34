"""A file gives the action that SB3's predict gives, for whatever SB3 trains, from the environment's own observation."""

import json

import numpy as np
import pytest
import torch as th
from agents import ALGORITHMS, SMALL, STRANGE, UNEVEN, VECTOR, Own, made, written
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from envs_for_tests import CountdownEnv
from sb3_distill.exporting import observations
from sb3_distill.exporting.agreement import ExportError
from sb3_distill.exporting.torchscript_file import METADATA


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm(name, tmp_path):
    cls, actions = ALGORITHMS[name]
    extra = (
        dict(policy_kwargs=dict(net_arch=[8], lstm_hidden_size=6, n_lstm_layers=2)) if name == "RecurrentPPO" else {}
    )
    done = written(made(cls, VECTOR, actions, **extra), tmp_path / "agent.pt")
    assert done.agreement.n == 1_000 and done.agreement.max_difference <= 1e-5
    assert done.agreement.n_different == done.agreement.n_ties
    assert (
        done.agreement.mean_difference == 0 or name == "RecurrentPPO"
    )  # nothing was skipped: else it would be no number


# --- ONNX: one of each kind of graph ----------------------------------------------------------------------------------


def session(path):
    ort = pytest.importorskip("onnxruntime")
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_onnx_of_a_q_network(tmp_path):
    model = made(DQN, VECTOR, spaces.Discrete(3, start=5))
    done = written(model, tmp_path / "agent.onnx")
    assert done.size == done.path.stat().st_size and done.to == "onnx"
    run = session(done.path)
    (observation,) = run.get_inputs()
    assert (observation.name, observation.shape, observation.type) == ("observation", ["batch", 3], "tensor(float)")
    assert [output.name for output in run.get_outputs()] == ["action", "scores"]
    obs = np.random.default_rng(0).uniform(-1, 1, (7, 3)).astype(np.float32)
    for batch in (obs, obs[:1]):
        action, scores = run.run(None, {"observation": batch})
        assert action.dtype == np.int64
        np.testing.assert_array_equal(action, model.predict(batch, deterministic=True)[0])
        np.testing.assert_allclose(scores, model.q_net(th.as_tensor(batch)).detach(), atol=1e-6)
    about = run.get_modelmeta().custom_metadata_map
    assert json.loads(about["inputs"]) == [{"name": "observation", "shape": ["batch", 3], "dtype": "float32"}]
    assert json.loads(about["action_start"]) == 5 and "counted from 0" in about["recipe"]
    assert str(tmp_path).encode() not in done.path.read_bytes() and b"/site-packages/" not in done.path.read_bytes()


def test_onnx_of_a_recurrent_agent_carries_its_state(tmp_path):
    model = made(RecurrentPPO, VECTOR, UNEVEN, policy_kwargs=dict(net_arch=[8], lstm_hidden_size=6, n_lstm_layers=2))
    run = session(written(model, tmp_path / "agent.onnx").path)
    rng, start = np.random.default_rng(0), np.ones(3, np.float32)
    hidden = cell = np.zeros((2, 3, 6), np.float32)
    state = None
    for step in range(6):
        obs = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
        given = dict(observation=obs, lstm_hidden=hidden, lstm_cell=cell, episode_start=start)
        action, hidden, cell = run.run(None, given)
        right, state = model.predict(obs, state, start.astype(bool), deterministic=True)
        np.testing.assert_allclose(action, right, atol=1e-5)
        start = np.float32([step == 3, 0, 1])
    np.testing.assert_allclose(hidden, state[0], atol=1e-6)


def dict_env():
    """Keys in no order, an image with its channels last, whole numbers and doubles."""
    space = spaces.Dict(
        [
            ("z", spaces.Box(-5, 5, (2, 2), np.float64)),
            ("camera", spaces.Box(0, 255, (36, 40, 3), np.uint8)),
            ("action", spaces.Discrete(4)),
            ("b", spaces.MultiBinary(2)),
        ]
    )
    return VecNormalize(DummyVecEnv([lambda: CountdownEnv(space, spaces.Discrete(3))]), norm_obs_keys=["z"])


def test_onnx_of_dicts_images_and_statistics(tmp_path):
    env = dict_env()
    model = made(PPO, env.observation_space, None, env, n_steps=16, batch_size=16, policy_kwargs=dict(net_arch=[8]))
    model.learn(16)
    done = written(model, tmp_path / "agent.onnx", n_observations=60)
    run = session(done.path)
    assert {i.name: (i.shape, i.type) for i in run.get_inputs()} == {
        "observation.z": (["batch", 2, 2], "tensor(double)"),
        "observation.camera": (["batch", 36, 40, 3], "tensor(uint8)"),
        "observation.action": (["batch"], "tensor(int64)"),
        "observation.b": (["batch", 2], "tensor(int8)"),
    }
    env.training = False
    obs = env.reset()  # normalised
    raw = env.get_original_obs()
    action, _ = run.run(None, {f"observation.{key}": values for key, values in raw.items()})
    np.testing.assert_array_equal(action, model.predict(obs, deterministic=True)[0])
    recipe = "\n".join(json.loads(run.get_modelmeta().custom_metadata_map["recipe"]))
    assert "observation.z: (x - mean)" in recipe and "camera: divided by 255" in recipe and "has them last" in recipe


# --- the strangest agents ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRANGE)
def test_strange_agents(name, tmp_path):
    cls, observations, actions, kwargs = STRANGE[name]
    found = written(made(cls, observations, actions, **kwargs), tmp_path / "agent.pt").agreement
    assert found.max_difference <= 1e-5 and found.n_different == found.n_ties


@pytest.mark.parametrize("low, high", [(-np.inf, np.inf), ([-np.inf, 0], [0.1, np.inf])])
def test_a_policy_alone_may_have_unbounded_actions(low, high, tmp_path):
    space = spaces.Box(*np.broadcast_arrays(np.float32(low), np.float32(high), np.zeros(2))[:2], dtype=np.float32)
    policy = ActorCriticPolicy(VECTOR, space, lambda _: 0.0, net_arch=[8])
    policy.action_net.weight.data *= 100
    assert written(policy, tmp_path / "agent.pt").agreement.max_difference <= 1e-5


@pytest.mark.parametrize("order", ["stacked, then normalised", "normalised, then stacked"])
def test_stacks_of_frames_with_statistics(order, tmp_path):
    env = DummyVecEnv([lambda: CountdownEnv(VECTOR, spaces.Discrete(3))])
    if order == "stacked, then normalised":
        env = VecNormalize(VecFrameStack(env, 3))
    else:
        env = VecFrameStack(VecNormalize(env), 3)
    model = made(PPO, None, None, env, n_steps=16, batch_size=16, policy_kwargs=SMALL)
    model.learn(32)
    done = written(model, tmp_path / "agent.pt", env=None)
    assert done.agreement.max_difference <= 1e-5
    run = th.jit.load(str(done.path))
    stack = np.zeros((1, 9), np.float32)
    vec = env if isinstance(env, VecNormalize) else env.venv
    vec.training = False
    obs = env.reset()
    for step in range(4):  # the first stacks of an episode hold frames of zeros
        raw = vec.get_original_obs()
        stack = raw if order == "stacked, then normalised" else np.concatenate([stack[:, 3:], raw], axis=1)
        scores = run(th.as_tensor(stack))[1].detach()
        want = model.policy.get_distribution(th.as_tensor(obs)).distribution.logits
        np.testing.assert_allclose(scores, want.detach(), atol=1e-6, err_msg=f"step {step}")
        obs = env.step(np.array([0]))[0]


def test_observations_are_met_in_the_environment_that_is_given(tmp_path):
    model = made(PPO, VECTOR, spaces.Discrete(3))
    env = DummyVecEnv([lambda: CountdownEnv(VECTOR, spaces.Discrete(3))] * 2)
    done = written(model, tmp_path / "agent.pt", env=env)
    assert done.agreement.n_met == 500 and "500 met in play" in str(done)
    env.step(np.zeros(2, dtype=int))  # it is open still


# --- what goes wrong --------------------------------------------------------------------------------------------------


class Stubborn(PPO):
    """Its predict does something else than its network."""

    def predict(self, *args, **kwargs):
        action, state = super().predict(*args, **kwargs)
        return (action + 1) % 3, state


def test_a_file_that_answers_otherwise_is_not_kept(tmp_path):
    path = tmp_path / "agent.pt"
    path.write_text("older")
    with pytest.raises(ExportError, match=r"not answer as SB3's predict.*1,000 others"):
        written(made(Stubborn, VECTOR, spaces.Discrete(3)), path)
    assert path.read_text() == "older" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("low, high", [(20_000, 30_000), (-30_000, -20_000), (0, 255), (-(2**31), 2**31 - 1)])
def test_whole_numbers_are_drawn_within_their_bounds(low, high):
    space = spaces.Box(low, high, (3,), np.int32)
    drawn = observations.drawn(space, 200, np.random.default_rng(0))
    assert all(map(space.contains, drawn)) and len(np.unique(drawn)) > 100


def test_ties_are_told_from_other_actions(tmp_path):
    """Two actions of equal value: which comes first is rounding, and said so."""
    from sb3_distill.exporting.agreement import _tied

    scores = np.float32([[1.0, 1.0 + 1e-7, 0], [1.0, 1.01, 0]])
    one, other = np.array([0, 0]), np.array([1, 1])
    assert _tied(scores, one, other, spaces.Discrete(3), 2e-5).tolist() == [True, False]
    scores = np.float32([[0, 5, 1, 1 + 1e-7, 0], [0, 5, 1, 2, 0]])
    one, other = np.array([[1, 0], [1, 0]]), np.array([[1, 1], [1, 1]])
    assert _tied(scores, one, other, spaces.MultiDiscrete([2, 3]), 2e-5).tolist() == [True, False]
    assert _tied(np.float32([[3, 1e-7], [3, 1]]), one, other, spaces.MultiBinary(2), 2e-5).tolist() == [True, False]


@pytest.fixture(scope="module")
def model():
    return made(PPO, VECTOR, spaces.Discrete(3))


@pytest.mark.parametrize(
    ("path", "kwargs", "error", "message"),
    [
        ("agent", {}, ValueError, "does not say which format"),
        ("agent.onx", {}, ValueError, "does not say which format"),
        ("agent.pt", {"to": "onnx"}, ValueError, "suffix of torchscript"),
        ("agent", {"to": "tflite"}, ValueError, "is no format"),
        ("none/agent.pt", {}, FileNotFoundError, "no folder"),
        ("", {"to": "torchscript"}, IsADirectoryError, "is a folder"),
        ("agent.pt", {"n_observations": 0}, ValueError, "n_observations"),
        ("agent.pt", {"layout": "last"}, ValueError, "channels-last"),
        ("agent.pt", {"env": "CartPole-v1"}, ValueError, "does not fit"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(path, kwargs, error, message, model, tmp_path):
    with pytest.raises(error, match=message):
        written(model, tmp_path / path, **kwargs)
    assert not list(tmp_path.iterdir())


def test_a_name_without_a_folder_and_without_a_suffix(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert written(model, "agent.v2", to="torchscript").path.name == "agent.v2.pt"
    files = {}
    th.jit.load("agent.v2.pt", _extra_files=(files := {METADATA: ""}))
    assert json.loads(files[METADATA])["policy"] == "ActorCriticPolicy"


def test_a_network_that_cannot_be_traced(tmp_path):
    class Python(Own):
        def forward(self, obs):
            return super().forward(obs) if float(obs.sum()) > 0 else self.a(obs)

    pytest.importorskip("onnx")
    model = made(PPO, VECTOR, spaces.Discrete(3), policy_kwargs=dict(features_extractor_class=Python))
    with pytest.raises(ValueError, match=r"torch\.export cannot trace"):
        written(model, tmp_path / "agent.onnx")
    assert not list(tmp_path.iterdir())


def test_the_model_is_left_as_it_was(tmp_path):
    model = made(PPO, VECTOR, spaces.Discrete(3))
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.policy.set_training_mode(True)
    state = th.random.get_rng_state(), np.random.get_state()[1].copy()
    written(model, tmp_path / "agent.pt")
    assert model.policy.training
    assert th.equal(state[0], th.random.get_rng_state()) and (state[1] == np.random.get_state()[1]).all()
    assert all(th.equal(before[name], value) for name, value in model.policy.state_dict().items())
    model.learn(64)  # and it goes on
