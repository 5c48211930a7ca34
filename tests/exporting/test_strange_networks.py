"""Networks, names and environments of others: what comes of them is right, or is refused with nothing changed."""

import json
import re
import subprocess

import numpy as np
import pytest
import torch as th
from agents import UNEVEN, VECTOR, made, written
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO, TD3
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from envs_for_tests import CountdownEnv
from sb3_distill.cli import main
from sb3_distill.exporting.agreement import ExportError
from sb3_distill.exporting.c_file import comment, compiler

needs_compiler = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")


class Changed(BaseFeaturesExtractor):
    """A network whose input is changed in a way of its own."""

    def __init__(self, space, how):
        super().__init__(space, 3)
        self.how, self.linear = how, th.nn.Linear(3, 3, dtype=th.float64 if how == "double" else th.float32)

    def forward(self, obs):
        if self.how == "double":
            return self.linear(obs.double()).float()
        if self.how == "random":
            return self.linear(obs + th.randn_like(obs))
        if self.how == "whole numbers":
            whole = (obs * 10).long()
            return whole / 4 + th.reciprocal(whole.abs() + 1)
        return th.erfinv(self.linear(obs).tanh())


def changed(how, cls=PPO, actions=UNEVEN, **kwargs):
    arch = dict(features_extractor_class=Changed, features_extractor_kwargs=dict(how=how), net_arch=[16, 16])
    return made(cls, VECTOR, actions, policy_kwargs=arch, **kwargs)


# --- what is computed -------------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("int8", [False, True])
def test_whole_numbers_divide_into_others(int8, tmp_path):
    """In C, too, where 3 / 4 is 0; with weights of eight bits the file has to compute what they say."""
    found = written(changed("whole numbers"), tmp_path / "a.h", int8=int8, n_observations=200).agreement
    assert found.max_difference < (0.5 if int8 else 1e-5)


@pytest.mark.parametrize("int8", [False, True])
def test_layers_in_double_precision_are_no_c(int8, tmp_path):
    with pytest.raises(
        ValueError, match=r"'linear' of the layer pi_features_extractor\.linear.*in torch.float64, and C's"
    ):
        written(changed("double"), tmp_path / "a.h", int8=int8, n_observations=50)
    assert written(changed("double"), tmp_path / "a.onnx", n_observations=50).agreement.max_difference < 1e-5


@pytest.mark.parametrize("suffix", ["onnx", "pt", "h"])
def test_a_network_that_draws_is_refused(suffix, tmp_path):
    if suffix == "h":
        with pytest.raises(ValueError, match="C cannot have the operation 'randn_like'"):
            written(changed("random"), tmp_path / "a.h", n_observations=50)
        return
    with pytest.raises(ExportError, match="predict answers otherwise when it is asked again"):
        written(changed("random"), tmp_path / f"a.{suffix}", n_observations=50)


def test_what_onnx_cannot_have_is_one_line(tmp_path):
    with pytest.raises(
        ValueError, match=r"^Cannot export ActorCriticPolicy: ONNX cannot have what it does \(.*erf_inv"
    ) as caught:
        written(changed("erfinv"), tmp_path / "a.onnx", n_observations=50)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


@needs_compiler
def test_a_sensor_that_is_broken_is_no_action_in_c(tmp_path):
    """NaN stays NaN, as in predict and in the other formats."""
    from sb3_distill.exporting.c_file import run_c
    from sb3_distill.exporting.environment import prepared

    model = made(TD3, VECTOR, UNEVEN, policy_kwargs=dict(net_arch=[8]))
    path = written(model, tmp_path / "a.h", n_observations=50).path
    obs = np.float32([[np.nan, 0, 0], [0, 0, 0]])
    with prepared(model, None, None, None) as (_, recipe, _):
        action = run_c(path, recipe, "a")({"observation": obs})["action"]
    assert np.isnan(action[0]).all() and np.isfinite(action[1]).all()


def test_a_refused_export_leaves_the_model_as_it_was(tmp_path):
    """Its parameters are its own still, to the bit, and it goes on learning."""
    model = changed("random", n_steps=16, batch_size=16).learn(16)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    for suffix in ("onnx", "pt"):
        with pytest.raises(ExportError):
            written(model, tmp_path / f"a.{suffix}", n_observations=50)
    after = model.policy.state_dict()
    assert all(th.equal(after[name], value) for name, value in before.items())
    assert all(type(p) is th.nn.Parameter and p.requires_grad for p in model.policy.parameters())
    model.learn(32)


def test_the_estimate_of_rounding_leaves_shared_layers_alone():
    """A features extractor stands three times in a policy."""
    model = changed("whole numbers", n_steps=16, batch_size=16)
    with pytest.raises(ExportError):
        _refuse(model)
    assert {type(p) for p in model.policy.parameters()} == {th.nn.Parameter}
    model.learn(32)


def _refuse(model):
    """A file that is off by one."""
    from sb3_distill.exporting import agreement
    from sb3_distill.exporting.environment import prepared
    from sb3_distill.exporting.observations import asked

    with prepared(model, None, None, None) as (agent, recipe, venv):
        questions = asked(agent, recipe, 50, venv)

        def off(inputs):
            right = agreement.answers(agent, recipe, questions.observations, inputs)
            return {name: values + 1 for name, values in right.items()}

        agreement.agreement(agent, recipe, off, questions).check(1e-5)


def test_torchscript_keeps_no_gradients(tmp_path):
    model = made(PPO, VECTOR, UNEVEN)
    path = written(model, tmp_path / "a.pt", n_observations=50).path
    loaded = th.jit.load(str(path))
    loaded(th.zeros(2, 3))[0].numpy()
    assert not any(p.requires_grad for p in loaded.parameters())
    assert all(p.requires_grad for p in model.policy.parameters())


@pytest.mark.parametrize("suffix", ["onnx", "h"])
def test_eight_bits_by_one_observation(suffix, tmp_path):
    assert written(made(PPO, VECTOR, UNEVEN), tmp_path / f"a.{suffix}", int8=True, n_observations=1).path.exists()


def test_eight_bits_of_a_row_of_traces_and_of_no_layer(tmp_path):
    """One row that is nearly 0 leaves its layer no float; a policy without layers in between has nothing to round."""
    model = made(PPO, VECTOR, spaces.Discrete(3), policy_kwargs=dict(net_arch=[32, 32]))
    size = written(model, tmp_path / "a.onnx", int8=True, n_observations=50).size
    with th.no_grad():
        model.policy.mlp_extractor.policy_net[2].weight[3] *= 1e-41
    assert written(model, tmp_path / "b.onnx", int8=True, n_observations=50).size < size * 1.1
    with pytest.raises(ValueError, match="ActorCriticPolicy has none: leave int8 out"):
        written(made(PPO, VECTOR, UNEVEN, policy_kwargs=dict(net_arch=[])), tmp_path / "c.onnx", int8=True)


# --- names ------------------------------------------------------------------------------------------------------------

EVIL = '*\\\n/\n#error out\n/* ??/\n*/ x \u2028 "'


@pytest.mark.parametrize("text", [EVIL, "*/", "*\\/", "??/", "???/", "*??/\n/", "/*", "a\rb", "*\\\\//"])
def test_no_text_leaves_a_comment(text, tmp_path):
    line = comment(text)
    assert not re.search(r"\*/|/\*|\\|\?\?/|[\n\r]", line)
    if compiler() is not None:
        (tmp_path / "a.c").write_text(f"/* {line}\n */\nint x;\n")
        done = subprocess.run(
            [
                compiler(),
                "-std=c99",
                "-Wall",
                "-Werror",
                "-trigraphs",
                "-c",
                str(tmp_path / "a.c"),
                "-o",
                str(tmp_path / "a.o"),
            ],
            capture_output=True,
            text=True,
        )
        assert not done.returncode, done.stderr


@needs_compiler
def test_nothing_in_a_runs_files_is_compiled(tmp_path, monkeypatch):
    """The name of its environment is text of others."""
    monkeypatch.chdir(tmp_path)
    made(PPO, VECTOR, UNEVEN).save("student.zip")
    (tmp_path / "settings.json").write_text(json.dumps({"env": EVIL, "method": "n_distill"}))
    assert main(["export", "student.zip", "--to", "c", "--observations", "20", "--quiet"]) == 0
    code = re.sub(r"/\*.*?\*/", "", (tmp_path / "student.h").read_text(), flags=re.DOTALL)
    assert "#error" not in code


@needs_compiler
def test_two_headers_of_a_program_have_two_names(tmp_path):
    """Whatever stands between the first dot and the suffix; and a folder may be called anything."""
    folder = tmp_path / 'of "mine" *'
    folder.mkdir()
    model = made(PPO, VECTOR, UNEVEN)
    texts = [written(model, folder / name, n_observations=20).path.read_text() for name in ("a.float.h", "a.other.h")]
    assert "a_float_act(" in texts[0] and "a_other_act(" in texts[1]


def test_the_agent_itself_is_not_written_over(tmp_path, monkeypatch, capsys):
    """Nor a file that is no export, where nobody has said so."""
    monkeypatch.chdir(tmp_path)
    model = made(PPO, VECTOR, UNEVEN)
    model.save("student.zip")
    model.policy.save("policy.pt")
    with pytest.raises(ValueError, match=r"policy\.pt is the agent itself"):
        written("policy.pt", "policy.pt")
    (tmp_path / "student.onnx").write_bytes(b"mine")
    words = ["export", "student.zip", "--observations", "20", "--quiet"]
    assert main(words) == 2
    assert "student.onnx is there, and no export: say with --out" in capsys.readouterr().err
    assert (tmp_path / "student.onnx").read_bytes() == b"mine"
    for _ in range(2):
        assert main([*words, "--out", "student.onnx"]) == 0
    assert main(words) == 0


# --- environments -----------------------------------------------------------------------------------------------------


class Strict(CountdownEnv):
    """Refuses what it forbids, and says which that is."""

    def __init__(self, actions):
        super().__init__(VECTOR, actions)
        self.allowed = np.array([True, False, True])

    def action_masks(self):
        return np.roll(self.allowed, self.step_count)

    def step(self, action):
        assert self.action_masks()[int(action)], "illegal"
        return super().step(action + self.action_space.start)


def test_observations_are_met_under_masks(tmp_path):
    env = DummyVecEnv([lambda: Strict(spaces.Discrete(3))])
    model = made(MaskablePPO, VECTOR, spaces.Discrete(3), env=env)
    assert written(model, tmp_path / "a.onnx", env=env, n_observations=100).agreement.n_met == 50


def test_observations_are_met_where_actions_are_counted_from_elsewhere(tmp_path):
    class Late(CountdownEnv):
        def step(self, action):
            return super().step([3, 4, 5][action])  # an index, which SB3 counts from 0

    actions = spaces.Discrete(3, start=3)
    env = DummyVecEnv([lambda: Late(VECTOR, actions)])
    model = made(PPO, VECTOR, actions, env=env)
    assert written(model, tmp_path / "a.onnx", env=env, n_observations=200).agreement.n_met == 100
