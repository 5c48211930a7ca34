"""Teachers that are named or lie in files, and are no agents of SB3's: MODULE:NAME, ONNX, CleanRL, rsl_rl."""

import itertools
import os
import sys
from collections import OrderedDict

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from sb3_distill import OnPolicyDistill, TeacherVReward, load_teacher
from sb3_distill.agents.errors import CheckpointError
from sb3_distill.cli import main
from sb3_distill.teachers.fingerprint import fingerprint_of
from sb3_distill.teachers.own import sampled

OBS = spaces.Box(-1.0, 1.0, (3,), np.float32)
BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
PIXELS = spaces.Box(0, 255, (84, 84, 4), np.uint8)
SMALL = dict(policy_kwargs=dict(net_arch=[8]), n_steps=8, batch_size=8, seed=0)

MODULE = """
import sb3_distill

class Hold:
    def reset(self):
        self.sum = 0.0
    def __call__(self, obs):
        self.sum += obs[2]
        return int(0.1 * obs[0] + 0.3 * obs[1] + obs[2] + 0.5 * obs[3] + 0.01 * self.sum > 0)
    def control(self, obs):
        return self(obs)

hold = Hold()
made = sb3_distill.load_teacher(lambda obs: [0.0, 1.0], answers="logits")
number = 3
pair = (1, 2)

class Slots:
    __slots__ = ()
    def control(self, obs):
        return 0

slots = Slots()
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module in the working directory."""
    (tmp_path / "mine_own.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("mine_own", None)


def layers(*sizes, activation=nn.Tanh):
    made = []
    for a, b in itertools.pairwise(sizes):
        made += [nn.Linear(a, b), activation()]
    return nn.Sequential(*made[:-1])


def prefixed(**networks):
    return {f"{name}.{key}": w for name, net in networks.items() for key, w in net.state_dict().items()}


# --- MODULE:NAME ------------------------------------------------------------------------------------------------------


def test_a_name_in_a_module_is_imported(module):
    for name in ("mine_own:hold", "mine_own:hold.control"):
        assert load_teacher(name, env="CartPole-v1").reads_a_view
    made = load_teacher("mine_own:made")
    assert made is sys.modules["mine_own"].made
    OnPolicyDistill("MlpPolicy", "CartPole-v1", teacher="mine_own:hold", **SMALL).learn(8)


@pytest.mark.parametrize(
    "name, kwargs, message",
    [
        (
            "mine_own:held",
            {},
            r"The module 'mine_own' has no 'held': did you mean 'Hold' or 'hold'\?|has no 'held'.*hold",
        ),
        ("mine_won:hold", {}, r"No module 'mine_won'"),
        ("mine_own:Hold", {}, r"The class Hold is no teacher: give one of its objects, Hold\(…\)"),
        ("mine_own:pair.cuont", {}, r"has no 'pair.cuont': .*count"),
        ("mine_own:slots.contol", {}, r"has no 'slots.contol': .*control"),
        ("mine_own:number", {}, r"Cannot learn from int 3"),
        ("mine_own:made", {"epsilon": 0.1}, r"mine_own:made is a teacher already: give epsilon where it is made"),
    ],
)
def test_names_that_mean_no_teacher_say_why(module, name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        load_teacher(name, **kwargs)


def test_a_path_that_exists_is_no_name(module):
    """A file may have such a name, and a file must not have anything imported."""
    (module / "evil.py").write_text("raise SystemExit('imported')")
    (module / "evil:agent").write_bytes(b"no zip")
    with pytest.raises(CheckpointError):
        load_teacher("evil:agent")


def test_the_command_line_distils_plays_and_records_it(module, capsys):
    given = ["--env", "CartPole-v1"]
    distil = ["distill", "--teacher", "mine_own:hold", *given, "--steps", "64", "--n-envs", "2", "--net-arch", "8"]
    assert main([*distil, "--eval-episodes", "2", "--out", "run", "--threads", "1"]) == 0
    said = capsys.readouterr().out
    assert "│ teacher     │             500.0 ± 0.0 │          — │    — │" in said and os.path.exists("run/student.zip")
    assert main(["play", "mine_own:hold", *given, "--episodes", "2", "--quiet"]) == 0
    assert "return 500.0 ± 0.0" in capsys.readouterr().out
    assert main(["record", "mine_own:hold", *given, "--steps", "40", "--out", "memory", "--quiet"]) == 0
    capsys.readouterr()
    for command, message in [
        (["distill", "--teacher", "mine_own:hold"], "Nothing says which environment mine_own:hold is of: give --env"),
        (["play", "mine_own:hold"], "Nothing says where mine_own:hold was trained: add --env"),
        ([*distil[:2], "mine_own:made", *distil[3:], "--method", "teacher-v-reward", "--out", "v"], "has none"),
        (["inspect", "mine_own:hold"], "mine_own:hold is of a module, and inspect looks into files"),
    ]:
        assert main(command) != 0
        assert message in capsys.readouterr().err


# --- CleanRL ----------------------------------------------------------------------------------------------------------


def test_cleanrls_dqn(tmp_path):
    net = layers(3, 12, 8, 2, activation=nn.ReLU)
    th.save(OrderedDict(prefixed(network=net)), tmp_path / "dqn.cleanrl_model")
    teacher = load_teacher(
        tmp_path / "dqn.cleanrl_model", observation_space=OBS, action_space=spaces.Discrete(2), temperature=1.0
    )
    obs = sampled(OBS, 20)
    with th.no_grad():
        th.testing.assert_close(teacher.q_values(obs), net(th.from_numpy(obs)))
    assert teacher.n_parameters == sum(p.numel() for p in net.parameters())


def seeing():
    """The layers of CleanRL's networks for Atari up to their heads, which have 16 inputs here."""
    convolutions = [
        nn.Conv2d(4, 4, 8, 4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 4, 2),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, 1),
        nn.ReLU(),
    ]
    return [*convolutions, nn.Flatten(), nn.Linear(4 * 49, 16), nn.ReLU()]


@pytest.mark.parametrize("layout", ["last", "first"])
def test_cleanrls_dqn_of_atari(tmp_path, layout):
    """Whichever way the environment lays its frames out."""
    net = nn.Sequential(*seeing(), nn.Linear(16, 6))
    th.save(prefixed(network=net), tmp_path / "dqn_atari.cleanrl_model")
    obs = sampled(PIXELS, 3)
    first = np.ascontiguousarray(obs.transpose(0, 3, 1, 2))
    space = PIXELS if layout == "last" else spaces.Box(0, 255, (4, 84, 84), np.uint8)
    kwargs = dict(observation_space=space, action_space=spaces.Discrete(6), temperature=1.0)
    teacher = load_teacher(tmp_path / "dqn_atari.cleanrl_model", **kwargs)
    with th.no_grad():
        expected = net(th.from_numpy(first).float() / 255)
    th.testing.assert_close(teacher.q_values(obs if layout == "last" else first), expected)


def test_cleanrls_ppo(tmp_path):
    actor, critic = layers(3, 8, 8, 2), layers(3, 8, 8, 1)
    th.save(prefixed(critic=critic, actor=actor), tmp_path / "ppo.cleanrl_model")
    teacher = load_teacher(tmp_path / "ppo.cleanrl_model", observation_space=OBS, action_space=spaces.Discrete(2))
    obs = sampled(OBS, 20)
    with th.no_grad():
        answer = teacher.answer(obs, with_value=True)
        th.testing.assert_close(answer.parameters, actor(th.from_numpy(obs)).log_softmax(-1))
        th.testing.assert_close(answer.value, critic(th.from_numpy(obs))[:, 0])
    mean = layers(3, 8, 8, 2)
    weights = prefixed(critic=critic, actor_mean=mean) | {"actor_logstd": th.full((1, 2), -0.7)}
    th.save(weights, tmp_path / "continuous.cleanrl_model")
    with pytest.warns(UserWarning, match="NormalizeObservation, whose statistics are not in the file"):
        teacher = load_teacher(tmp_path / "continuous.cleanrl_model", observation_space=OBS, action_space=BOX)
    with th.no_grad():
        params = teacher.answer(obs).parameters
        th.testing.assert_close(params, th.cat([mean(th.from_numpy(obs)), th.full((20, 2), -0.7)], 1))
    assert not teacher.has_value  # of rewards that were normalised


def test_cleanrls_ppo_of_atari(tmp_path):
    trunk = nn.Sequential(*seeing())
    actor, critic = nn.Linear(16, 6), nn.Linear(16, 1)
    th.save(prefixed(network=trunk, actor=actor, critic=critic), tmp_path / "ppo_atari.cleanrl_model")
    teacher = load_teacher(
        tmp_path / "ppo_atari.cleanrl_model", observation_space=PIXELS, action_space=spaces.Discrete(6)
    )
    obs = sampled(PIXELS, 2)
    with th.no_grad():
        hidden = trunk(th.from_numpy(obs).permute(0, 3, 1, 2).float() / 255)
        answer = teacher.answer(obs, with_value=True)
        th.testing.assert_close(answer.parameters, actor(hidden).log_softmax(-1))
        th.testing.assert_close(answer.value, critic(hidden)[:, 0])


# --- rsl_rl -----------------------------------------------------------------------------------------------------------


def statistics(seed, size=3):
    generator = th.Generator().manual_seed(seed)
    mean, std = th.randn(1, size, generator=generator), th.rand(1, size, generator=generator) + 0.5
    return {"_mean": mean, "_var": std**2, "_std": std, "count": th.tensor(7)}


def named(name, state):
    return {f"{name}.{key}": w for key, w in state.items()}


@pytest.mark.parametrize("version", ["plain", "beside", "beside_too", "within", "two"])
def test_rsl_rls_models(tmp_path, version):
    """As its versions write them: without statistics, with them beside the policy, within it, and with a model for each part."""
    actor, critic = layers(3, 8, 8, 2, activation=nn.ELU), layers(3, 8, 1, activation=nn.ELU)
    std, mine, theirs = th.tensor([0.3, 0.6]), statistics(0), statistics(1)
    rest = {"iter": 5, "infos": {"note": "x"}, "optimizer_state_dict": th.optim.Adam(actor.parameters()).state_dict()}
    policy = prefixed(actor=actor, critic=critic)
    saved = {
        "plain": {"model_state_dict": policy | {"std": std}},
        "beside": {
            "model_state_dict": policy | {"std": std},
            "obs_norm_state_dict": mine,
            "privileged_obs_norm_state_dict": theirs,
        },
        "beside_too": {
            "model_state_dict": policy | {"std": std},
            "obs_norm_state_dict": mine,
            "critic_obs_norm_state_dict": theirs,
        },
        "within": {
            "model_state_dict": policy
            | {"log_std": std.log()}
            | named("actor_obs_normalizer", mine)
            | named("critic_obs_normalizer", theirs)
        },
        "two": {
            "actor_state_dict": prefixed(mlp=actor) | {"distribution.std_param": std} | named("obs_normalizer", mine),
            "critic_state_dict": prefixed(mlp=critic) | named("obs_normalizer", theirs),
        },
    }[version]
    th.save(saved | rest, tmp_path / "model_5.pt")
    teacher = load_teacher(tmp_path / "model_5.pt", observation_space=OBS, action_space=BOX)
    obs = sampled(OBS, 20)

    def seen(state):
        x = th.from_numpy(obs)
        return x if version == "plain" else (x - state["_mean"]) / (state["_std"] + 0.01)

    with th.no_grad():
        answer = teacher.answer(obs, with_value=True)
        th.testing.assert_close(answer.parameters, th.cat([actor(seen(mine)), std.log().expand(20, 2)], 1))
        th.testing.assert_close(answer.value, critic(seen(theirs))[:, 0])


def test_a_critic_that_sees_more_is_left_out(tmp_path):
    actor, critic = layers(3, 8, 2, activation=nn.ELU), layers(9, 8, 1, activation=nn.ELU)
    th.save({"model_state_dict": prefixed(actor=actor, critic=critic) | {"std": th.ones(2)}}, tmp_path / "model_0.pt")
    assert not load_teacher(tmp_path / "model_0.pt", observation_space=OBS, action_space=BOX).has_value


def test_a_critic_reads_through_no_normaliser_but_its_own(tmp_path):
    """Which rsl_rl gives the actor and the critic one by one; where nothing says what it is, there is no V."""
    actor, critic = layers(3, 8, 2, activation=nn.ELU), layers(3, 8, 1, activation=nn.ELU)
    policy, obs = prefixed(actor=actor, critic=critic) | {"std": th.ones(2)}, sampled(OBS, 5)
    within = {"model_state_dict": policy | named("actor_obs_normalizer", statistics(0))}
    two = {
        "actor_state_dict": prefixed(mlp=actor)
        | {"distribution.std_param": th.ones(2)}
        | named("obs_normalizer", statistics(0)),
        "critic_state_dict": prefixed(mlp=critic),
    }
    for saved in (within, two):
        th.save(saved, tmp_path / "model_0.pt")
        teacher = load_teacher(tmp_path / "model_0.pt", observation_space=OBS, action_space=BOX)
        with th.no_grad():
            th.testing.assert_close(teacher.value(obs), critic(th.from_numpy(obs))[:, 0])
    th.save({"model_state_dict": policy, "obs_norm_state_dict": statistics(0)}, tmp_path / "model_1.pt")
    assert not load_teacher(tmp_path / "model_1.pt", observation_space=OBS, action_space=BOX).has_value


def test_a_model_with_statistics_is_not_normalised_twice(tmp_path):
    """And one without takes those that are given."""
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1")])
    given = VecNormalize(env)
    given.reset()
    policy = prefixed(actor=layers(3, 8, 1, activation=nn.ELU), critic=layers(3, 8, 1, activation=nn.ELU))
    policy |= {"std": th.tensor([0.3])}
    th.save({"model_state_dict": policy}, tmp_path / "plain.pt")
    th.save({"model_state_dict": policy, "obs_norm_state_dict": statistics(0)}, tmp_path / "own.pt")
    assert load_teacher(tmp_path / "plain.pt", env=env, vec_normalize=given).normalize_obs is not None
    with pytest.raises(
        ValueError, match=r"own\.pt has the statistics of its observations.*normalised twice: leave it out"
    ):
        load_teacher(tmp_path / "own.pt", env=env, vec_normalize=given)


@pytest.mark.parametrize("kwargs", [{}, dict(observation_space=OBS, action_space=BOX)])
def test_a_model_of_rsl_rls_that_is_not_read_says_why(tmp_path, kwargs):
    policy = prefixed(actor=layers(3, 8, 2), critic=layers(3, 8, 1))
    th.save(
        {"model_state_dict": policy | {"std": th.ones(2), "memory_a.rnn.weight_ih_l0": th.ones(1)}}, tmp_path / "r.pt"
    )
    with pytest.raises(CheckpointError, match=r"r\.pt cannot be read as a model of rsl_rl's.*: it is recurrent"):
        load_teacher(tmp_path / "r.pt", **kwargs)
    th.save({"model_state_dict": policy}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt cannot be read as .*: it has no 'log_std'"):
        load_teacher(tmp_path / "other.pt", **kwargs)


# --- what is wrong with a file ----------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/never-run-by-sb3-distill",)


def test_no_pickle_of_another_library_is_run(tmp_path):
    net, critic = layers(3, 8, 2, activation=nn.ReLU), layers(3, 8, 1)
    th.save(
        {"model_state_dict": prefixed(actor=net, critic=critic) | {"std": th.ones(2)}, "infos": Evil()},
        tmp_path / "m.pt",
    )
    load_teacher(tmp_path / "m.pt", observation_space=OBS, action_space=BOX)
    th.save(prefixed(network=net) | {"x": Evil()}, tmp_path / "m.cleanrl_model")
    with pytest.raises(CheckpointError, match=r"is of no layout that is known here"):
        load_teacher(tmp_path / "m.cleanrl_model")
    assert not os.path.exists("/tmp/never-run-by-sb3-distill")


def test_files_that_are_something_else_say_so(tmp_path):
    c51 = prefixed(network=layers(3, 8, 2)) | {"atoms": th.ones(3)}
    th.save(c51, tmp_path / "c51.cleanrl_model")
    with pytest.raises(
        CheckpointError,
        match=r"no layout that is known here: it has network\.0\.weight.*Known are CleanRL's DQN and PPO",
    ):
        load_teacher(tmp_path / "c51.cleanrl_model")
    (tmp_path / "flax.cleanrl_model").write_bytes(b"\x93flax")
    with pytest.raises(CheckpointError, match=r"is damaged, or no file of torch's"):
        load_teacher(tmp_path / "flax.cleanrl_model")
    th.save(prefixed(network=layers(3, 8, 2)), tmp_path / "dqn.cleanrl_model")
    with pytest.raises(ValueError, match=r"is CleanRL's DQN, which says itself what it answers with: leave answers=…"):
        load_teacher(tmp_path / "dqn.cleanrl_model", answers="logits")
    with pytest.raises(ValueError, match=r"dqn\.cleanrl_model raises RuntimeError"):
        load_teacher(tmp_path / "dqn.cleanrl_model", env="CartPole-v1")
    with pytest.raises(FileNotFoundError):
        load_teacher(tmp_path / "nothing.cleanrl_model")


# --- ONNX -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def onnx():
    pytest.importorskip("onnxruntime")
    return pytest.importorskip("onnx")


def write_linear(onnx, path, weights, batch="n", outputs=("logits",), inputs=("obs",)):
    """obs @ w for each output; of several inputs, their sum."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes, source = [], inputs[0]
    if len(inputs) > 1:
        nodes, source = [helper.make_node("Add", list(inputs), ["sum"])], "sum"
    nodes += [helper.make_node("MatMul", [source, f"w{k}"], [name]) for k, name in enumerate(outputs)]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(name, kind, [batch, weights[0].shape[0]]) for name in inputs],
        [
            helper.make_tensor_value_info(name, kind, [batch, w.shape[1]])
            for name, w in zip(outputs, weights, strict=True)
        ],
        [onnx.numpy_helper.from_array(w, f"w{k}") for k, w in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_an_onnx_file_answers_for_any_batch(onnx, tmp_path, batch):
    """Also one that was written for a batch of some size."""
    w = drawn(3, 2)
    write_linear(onnx, tmp_path / "net.onnx", [w], batch)
    teacher = load_teacher(
        tmp_path / "net.onnx", answers="logits", observation_space=OBS, action_space=spaces.Discrete(2)
    )
    for n in (0, 1, 5, 8):
        obs = sampled(OBS, 8)[:n]
        expected = th.from_numpy(obs @ w).log_softmax(-1)
        th.testing.assert_close(teacher.answer(obs).parameters, expected)
    assert len(fingerprint_of(teacher)) == 64


def test_outputs_are_found_by_their_names(onnx, tmp_path):
    w, v = drawn(3, 2), drawn(3, 2, seed=1)
    kwargs = dict(observation_space=OBS, action_space=spaces.Discrete(2))
    write_linear(onnx, tmp_path / "net.onnx", [v, w], outputs=("other", "scores"))
    obs = sampled(OBS, 5)
    teacher = load_teacher(str(tmp_path / "net.onnx"), answers="q_values", temperature=1.0, **kwargs)
    np.testing.assert_allclose(teacher.q_values(obs), obs @ w, rtol=1e-5, atol=1e-6)
    with pytest.raises(
        ValueError, match=r"has the outputs 'other', 'scores', and none is called 'probabilities'.*OnnxFunction"
    ):
        load_teacher(tmp_path / "net.onnx", answers="probabilities", **kwargs)
    from sb3_distill.teachers.onnx_function import OnnxFunction

    teacher = load_teacher(OnnxFunction(tmp_path / "net.onnx", "other"), answers="logits", **kwargs)
    np.testing.assert_allclose(
        teacher.answer(obs).parameters.softmax(-1), th.from_numpy(obs @ v).softmax(-1), rtol=1e-5
    )
    with pytest.raises(ValueError, match=r"has no output 'o': it has 'other', 'scores'"):
        OnnxFunction(tmp_path / "net.onnx", "o")


def test_inputs_are_the_keys_of_dicts(onnx, tmp_path):
    w = drawn(3, 2)
    write_linear(onnx, tmp_path / "net.onnx", [w], inputs=("a", "b"))
    space = spaces.Dict({"a": OBS, "b": OBS, "unused": spaces.Discrete(3)})
    kwargs = dict(observation_space=space, action_space=spaces.Discrete(2))
    teacher = load_teacher(tmp_path / "net.onnx", answers="logits", **kwargs)
    obs = sampled(space, 4)
    expected = th.from_numpy((obs["a"] + obs["b"]) @ w).log_softmax(-1)
    th.testing.assert_close(teacher.answer(obs).parameters, expected)
    with pytest.raises(ValueError, match=r"takes 'a', 'b', and the observations are \(8, 3\)"):
        load_teacher(tmp_path / "net.onnx", answers="logits", observation_space=OBS, action_space=spaces.Discrete(2))


def test_onnx_files_that_do_not_fit_say_why(onnx, tmp_path):
    write_linear(onnx, tmp_path / "net.onnx", [drawn(3, 2)])
    with pytest.raises(
        ValueError,
        match=r"takes 'obs' of shape \('n', 3\), tensor\(float\), and the observations are of shape \(8, 4\)",
    ):
        load_teacher(tmp_path / "net.onnx", answers="logits", env="CartPole-v1")
    with pytest.raises(ValueError, match=r"If these are logits or Q-values, give answers='logits'"):
        load_teacher(tmp_path / "net.onnx", observation_space=OBS, action_space=spaces.Discrete(2))
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"ONNX Runtime cannot read .*bad\.onnx"):
        load_teacher(tmp_path / "bad.onnx")
    with pytest.raises(FileNotFoundError, match=r"No ONNX file"):
        load_teacher(tmp_path / "none.onnx")


def test_a_value_beside_a_file(onnx, tmp_path):
    write_linear(onnx, tmp_path / "net.onnx", [drawn(4, 2)])
    teacher = load_teacher(tmp_path / "net.onnx", answers="logits", value=lambda obs: obs[0])
    TeacherVReward("MlpPolicy", "CartPole-v1", teacher=teacher, **SMALL).learn(8)


def write_typed(onnx, path, kind):
    """Two logits, +x and −x, of an input of some type."""
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["obs"], ["x"], to=real),
        helper.make_node("MatMul", ["x", "w"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "typed",
        [helper.make_tensor_value_info("obs", kind, ["n", 1])],
        [helper.make_tensor_value_info("logits", real, ["n", 2])],
        [onnx.numpy_helper.from_array(np.array([[1, -1]], np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize("name", ["UINT16", "INT16", "UINT32", "UINT64", "INT64", "UINT8"])
def test_an_onnx_file_may_take_any_integers_and_no_fractions_are_cut_off(onnx, tmp_path, name):
    """0.9 as an integer is 0, and 300 as a byte 44: other observations than there are."""
    write_typed(onnx, tmp_path / "net.onnx", getattr(onnx.TensorProto, name))
    kwargs = dict(answers="logits", action_space=spaces.Discrete(2))
    fits = spaces.Box(0, 100, (1,), np.int64)
    teacher = load_teacher(tmp_path / "net.onnx", observation_space=fits, **kwargs)
    obs = np.array([[3], [100]])
    th.testing.assert_close(teacher.answer(obs).parameters, th.tensor([[3.0, -3], [100, -100]]).log_softmax(-1))
    dtype = name.lower()
    with pytest.raises(ValueError, match=rf"takes 'obs' of {dtype}, and the observations are of float32"):
        load_teacher(tmp_path / "net.onnx", observation_space=spaces.Box(-0.9, 0.9, (1,)), **kwargs)
    if name != "INT64":
        bound = np.iinfo(dtype).max + 1 if name not in ("UINT32", "UINT64") else -3
        with pytest.raises(ValueError, match=rf"takes 'obs' of {dtype}, \S+ … \d+, and the observations are of int64"):
            teacher.answer(np.array([[bound]]))


def test_a_type_that_no_observation_has_is_no_matter_of_shapes(onnx, tmp_path):
    write_typed(onnx, tmp_path / "net.onnx", onnx.TensorProto.BFLOAT16)
    with pytest.raises(ValueError, match=r"takes 'obs' of tensor\(bfloat16\), which observations are never of"):
        load_teacher(
            tmp_path / "net.onnx",
            answers="logits",
            observation_space=spaces.Box(0, 1, (1,)),
            action_space=spaces.Discrete(2),
        )


@pytest.mark.parametrize("names", [("action_std", "action_mean"), ("scale", "loc"), ("std", "value", "mean")])
def test_mean_and_standard_deviation_are_told_by_their_names(onnx, tmp_path, names):
    """Whichever comes first: the two swapped would be another teacher."""
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    constants = {name: np.full((3, 2), 2.0 if "m" in name or "loc" in name else 0.5, np.float32) for name in names}
    nodes = [helper.make_node("MatMul", ["ones", f"c{k}"], [name]) for k, name in enumerate(names)]
    nodes.insert(0, helper.make_node("Mul", ["obs", "zero"], ["nothing"]))
    nodes.insert(1, helper.make_node("Add", ["nothing", "third"], ["ones"]))
    held = {"zero": np.zeros(1, np.float32), "third": np.full(1, 1 / 3, np.float32)}
    held |= {f"c{k}": constants[name] for k, name in enumerate(names)}
    graph = helper.make_graph(
        nodes,
        "gaussian",
        [helper.make_tensor_value_info("obs", real, ["n", 3])],
        [helper.make_tensor_value_info(name, real, ["n", 2]) for name in names],
        [onnx.numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx"
    )
    teacher = load_teacher(tmp_path / "net.onnx", answers="mean_and_std", observation_space=OBS, action_space=BOX)
    expected = th.tensor([[2.0, 2.0, np.log(0.5), np.log(0.5)]], dtype=th.float32)
    th.testing.assert_close(teacher.answer(np.ones((1, 3), np.float32)).parameters, expected)


@pytest.mark.parametrize("answers, names", [("mean_and_std", ("mean", "log_std")), ("mean_and_std", ("a", "b"))])
def test_outputs_that_are_not_told_by_their_names_are_asked_for(onnx, tmp_path, answers, names):
    write_linear(onnx, tmp_path / "net.onnx", [drawn(3, 2)] * 2, outputs=names)
    with pytest.raises(ValueError, match=rf"has the outputs {', '.join(map(repr, names))}, and .*OnnxFunction\("):
        load_teacher(tmp_path / "net.onnx", answers=answers, observation_space=OBS, action_space=BOX)


def test_an_action_is_not_taken_from_a_value(onnx, tmp_path):
    write_linear(onnx, tmp_path / "net.onnx", [drawn(3, 2)] * 2, outputs=("value", "policy"))
    with pytest.raises(ValueError, match=r"has the outputs 'value', 'policy', and none is called 'action'"):
        load_teacher(tmp_path / "net.onnx", observation_space=OBS, action_space=BOX)


def test_weights_beside_an_onnx_file_tell_it_from_others(onnx, tmp_path):
    """The same file beside other weights is another teacher; in another folder it is the same; what is elsewhere is not read."""
    marks = []
    for folder, seed in (("a", 0), ("b", 1), ("c", 0)):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "net.onnx"
        write_linear(onnx, path, [drawn(3, 2, seed=seed)])
        onnx.save(onnx.load(path), path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
        (tmp_path / folder / "other.bin").write_bytes(bytes([len(marks)]))
        kwargs = dict(answers="logits", observation_space=OBS, action_space=spaces.Discrete(2))
        marks.append(fingerprint_of(load_teacher(path, **kwargs)))
    written = [(tmp_path / folder / "net.onnx").read_bytes() for folder in "abc"]
    assert written[0] == written[1]
    assert marks[0] != marks[1] and marks[0] == marks[2]
    from sb3_distill.teachers.onnx_function import _data_files

    (tmp_path / "secret").write_bytes(b"x")
    assert _data_files(tmp_path / "a" / "net.onnx", b"\n\x08location\x12\x09../secret") == []


class Awkward:
    """A controller whose reset wants something."""

    def reset(self, obs):
        pass

    def __call__(self, obs):
        return 0


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        (
            Awkward(),
            dict(env="CartPole-v1"),
            r"Awkward has a reset\(\) that cannot be called without arguments \(missing.*'obs'",
        ),
        (3, dict(observation_space=spaces.Box(-1, 1, (3,))), r"^Cannot learn from int 3: give .* or a function"),
        (
            lambda obs: [[0, 1], [1, 0]],
            dict(observation_space=spaces.Box(-1, 1, (3,)), action_space=spaces.MultiDiscrete([[3, 2], [2, 2]])),
            "SB3 knows MultiDiscrete actions of one axis",
        ),
    ],
)
def test_awkward_sources_are_told_what_is_wrong(source, given, message):
    with pytest.raises(ValueError, match=message):
        load_teacher(source, **given)


def test_commands_try_a_function_on_states_of_their_environment(tmp_path, monkeypatch, capsys):
    """And not on samples of its space: on Pendulum no cosine and sine of those belong together."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "true_states.py").write_text(
        "def swing(obs):\n    assert abs(obs[0] ** 2 + obs[1] ** 2 - 1) < 1e-3\n    return [-obs[1]]\n"
    )
    assert main(["play", "true_states:swing", "--env", "Pendulum-v1", "--episodes", "1", "--quiet"]) == 0
    words = [
        "--env",
        "Pendulum-v1",
        "--method",
        "on-policy-distill",
        "--steps",
        "64",
        "--n-envs",
        "1",
        "--eval-episodes",
        "2",
    ]
    assert (
        main(["distill", "--teacher", "true_states:swing", *words, "--net-arch", "4", "--out", "run", "--quiet"]) == 0
    )
    assert (tmp_path / "run" / "student.zip").exists()
