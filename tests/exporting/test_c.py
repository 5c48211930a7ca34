"""A C header does what predict does, in float and with weights of eight bits, and says which layer it cannot have."""

import platform
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch as th
from agents import ALGORITHMS, STRANGE, UNEVEN, VECTOR, Own, made, written
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize
from torch import nn

from envs_for_tests import CountdownEnv
from sb3_distill.exporting.agreement import ExportError
from sb3_distill.exporting.c_file import NATIVE, c_prefix, compiler
from sb3_distill.exporting.eight_bits import compensated, nearest_rows, scales
from sb3_distill.students.features import min_atar_student

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler: cc, gcc and clang were looked for")

RECURRENT = dict(policy_kwargs=dict(net_arch=[8], lstm_hidden_size=6, n_lstm_layers=2))
AGENTS = {
    name: (cls, VECTOR, actions, RECURRENT if name == "RecurrentPPO" else {})
    for name, (cls, actions) in ALGORITHMS.items()
    if name not in ("A2C", "TD3", "DDPG", "TQC")  # to C, these are PPO and SAC
} | STRANGE


def has_fused_multiply_add():
    if compiler() is None:
        return False
    said = subprocess.run([compiler(), *NATIVE, "-dM", "-E", "-"], input="", capture_output=True, text=True).stdout
    return platform.machine() == "x86_64" and "__FP_FAST_FMAF" in said


@pytest.mark.parametrize("name", AGENTS)
def test_agents_as_c(name, tmp_path):
    cls, observations, actions, kwargs = AGENTS[name]
    found = written(made(cls, observations, actions, **kwargs), tmp_path / "agent.h").agreement
    assert found.n == 1_000 and found.n_different == found.n_ties
    assert found.max_difference <= max(1e-5, found.rounding)


def test_the_header_is_what_is_compared(tmp_path, monkeypatch):
    """Answers may be equal to the last bit, so that no difference shows that another program computed them: a wrong one is noticed."""
    from sb3_distill.exporting import c_layers

    wrong = c_layers.MULTIPLY_ADD.replace("fmaf(w, x, a)", "fmaf(w, x, a + 0.01f)").replace("+ (a))", "+ (a) + 0.01f)")
    monkeypatch.setattr(c_layers, "MULTIPLY_ADD", wrong)
    with pytest.raises(ExportError, match="does not answer as SB3's predict"):
        written(made(PPO, VECTOR, spaces.Discrete(3)), tmp_path / "agent.h")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not has_fused_multiply_add(), reason="no fused multiply-add, with which torch sums")
def test_sums_of_hundreds_are_those_of_predict(tmp_path):
    """Layers of hundreds whose answers hang on the last bits of their sums: the same order, the same bits."""
    model = made(
        SAC, spaces.Box(-9, 9, (11,), np.float32), UNEVEN, policy_kwargs=dict(net_arch=[257, 130]), randomise=False
    )
    with th.no_grad():
        for weights in model.policy.actor.parameters():
            weights *= 12
    done = written(model, tmp_path / "agent.h")
    assert done.agreement.max_difference <= 1e-5


@pytest.mark.parametrize("size", ["25%", "4%"])
def test_small_images(size, tmp_path):
    space = spaces.Box(0, 1, (4, 10, 10), np.bool_) if size == "4%" else spaces.Box(0, 1, (4, 10, 10), np.float32)
    model = made(DQN, space, spaces.Discrete(3), policy_kwargs=min_atar_student(size))
    done = written(model, tmp_path / "agent.h", n_observations=200)
    assert done.agreement.max_difference <= 1e-5 and done.agreement.n_different == 0


def test_images_channels_last_with_strides_and_padding(tmp_path):
    class Padded(Own):
        def __init__(self, space):
            super().__init__(space)
            self.a = nn.Sequential(nn.Conv2d(3, 4, (3, 5), (2, 1), (1, 2)), nn.ReLU(), nn.Flatten(), nn.LazyLinear(6))
            self.a(th.zeros(1, 3, 36, 40))

        def forward(self, obs):
            return self.a(obs)

    kwargs = dict(policy="CnnPolicy", policy_kwargs=dict(features_extractor_class=Padded), randomise=False)
    model = made(PPO, spaces.Box(0, 255, (36, 40, 3), np.uint8), spaces.Discrete(3), **kwargs)
    done = written(model, tmp_path / "agent.h", n_observations=50)
    assert "uint8_t[4320], shape (36, 40, 3)" in done.path.read_text()


def test_frames_and_statistics(tmp_path):
    env = VecFrameStack(VecNormalize(DummyVecEnv([lambda: CountdownEnv(VECTOR, spaces.Discrete(3))])), 3)
    model = made(PPO, None, None, env, n_steps=16, batch_size=16)
    model.learn(32)
    assert written(model, tmp_path / "agent.h").agreement.n_different == 0


def test_a_program_on_a_device(tmp_path):
    """As its user writes it: C99 and C++, every warning an error, no allocation, and less than 16 KB of flash."""
    model = made(PPO, VECTOR, spaces.Box(np.float32([-2, 0]), np.float32([1, 5])), policy_kwargs=dict(net_arch=[32]))
    header = written(model, tmp_path / "my-agent.h").path
    text = header.read_text()
    assert c_prefix(header) == "my_agent" and not re.search(r"\b(malloc|calloc|free|static [^c(]*\[)", text)
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "my-agent.h"\n'
        "int main(void) { float obs[3] = {0.25f, -0.5f, 1}, action[2]; my_agent_act(obs, action);\n"
        'printf("%.9g %.9g\\n", action[0], action[1]); return 0; }\n'
    )
    strict = ["-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-variable", "-I", str(tmp_path)]
    subprocess.run(
        [compiler(), "-std=c99", "-pedantic", *strict, "main.c", "-o", "main", "-lm"], cwd=tmp_path, check=True
    )
    said = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    right, _ = model.predict(np.float32([0.25, -0.5, 1]), deterministic=True)
    np.testing.assert_allclose(np.array(said.split(), float), right, atol=1e-5)
    if (plus := shutil.which("c++")) is not None:
        subprocess.run(
            [plus, "-std=c++11", "-pedantic", *strict, "-c", "-x", "c++", "main.c", "-o", "plus.o"],
            cwd=tmp_path,
            check=True,
        )
    subprocess.run([compiler(), *strict, "-c", "-fno-builtin", "main.c", "-o", "main.o"], cwd=tmp_path, check=True)
    assert (tmp_path / "main.o").stat().st_size < 16_384


def test_what_c_cannot_have_names_its_layer(tmp_path):
    class Strange(Own):
        def __init__(self, space):
            super().__init__(space)
            self.odd = Odd()

        def forward(self, obs):
            return self.odd(self.a(obs))

    class Odd(nn.Module):
        def forward(self, x):
            return th.sort(x, dim=1).values

    path = tmp_path / "agent.h"
    path.write_text("older")
    model = made(PPO, VECTOR, spaces.Discrete(3), policy_kwargs=dict(features_extractor_class=Strange))
    with pytest.raises(ValueError, match=r"operation 'sort' of the layer pi_features_extractor\.odd \(Odd\)"):
        written(model, path)
    assert path.read_text() == "older" and list(tmp_path.iterdir()) == [path]


# --- eight bits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["h", "onnx"])
def test_eight_bits(suffix, tmp_path):
    """Both formats have the same weights, and answer nearly as the agent does; the agent keeps its own."""
    model = made(DQN, VECTOR, spaces.Discrete(3), policy_kwargs=dict(net_arch=[64, 64]))
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    done = written(model, tmp_path / f"agent.{suffix}", int8=True)
    assert all(th.equal(before[name], value) for name, value in model.policy.state_dict().items())
    assert done.size < 0.45 * written(model, tmp_path / f"whole.{suffix}").size
    assert 0 < done.agreement.mean_difference < 0.02 and done.agreement.share_of_equal > 0.97


def test_rounding_is_made_up_for():
    """Against rounding to the nearest: the same numbers to choose from, and outputs nearer to what they were."""
    rng = np.random.default_rng(0)
    rows = th.as_tensor(rng.standard_normal((500, 5)) @ rng.standard_normal((5, 40)))  # inputs that go together
    weights = th.as_tensor(rng.standard_normal((7, 40)))
    nearest, better = nearest_rows(weights), compensated(weights, rows)
    for found in (nearest, better):
        whole = found / scales(found)  # who reads it finds the same ones
        assert whole.abs().max() <= 127 + 1e-9 and (whole - whole.round()).abs().max() < 1e-9
    errors = [((rows @ (found - weights).T) ** 2).mean() for found in (nearest, better)]
    assert errors[1] < errors[0] / 5


def test_no_compiler_is_said(tmp_path, monkeypatch):
    from sb3_distill.exporting import c_file

    monkeypatch.setattr(c_file, "COMPILERS", ("no-such-compiler",))
    with pytest.warns(UserWarning, match="this machine has no C compiler"):
        done = written(made(PPO, VECTOR, spaces.Discrete(2)), tmp_path / "agent.h")
    assert done.agreement is None and done.path.exists() and "predict" not in str(done)


def test_eight_bits_of_torchscript_there_are_none(tmp_path):
    with pytest.raises(ValueError, match="int8 is for 'onnx' and 'c'"):
        written(made(PPO, VECTOR, spaces.Discrete(2)), tmp_path / "agent.pt", int8=True)


def test_small_first_layers_and_the_last_ones_stay_float(tmp_path):
    """Of 3 inputs, the first layer has 192 of 4,416 weights; of 100, more than half of them, and is rounded."""
    wide = spaces.Box(-1, 1, (100,), np.float32)
    for space, n_float in ((VECTOR, 2), (wide, 1)):
        model = made(DQN, space, spaces.Discrete(3), policy_kwargs=dict(net_arch=[64, 64]))
        text = written(model, tmp_path / "agent.h", int8=True).path.read_text()
        assert len(re.findall(r"agent_linear\(", text)) == n_float + 1  # its definition, too
        assert len(re.findall(r"agent_linear_i8\(", text)) == 3 - n_float + 1
