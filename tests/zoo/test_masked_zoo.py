"""rl_zoo3's train and enjoy, whose evaluations know of no masks, with a masked student."""

import os
import subprocess
import sys
from pathlib import Path

ENVIRONMENT = """
import gymnasium as gym
from masked_envs import MaskedEnv

gym.register("Masked-v0", entry_point=MaskedEnv)
"""
SCRIPT = """
import sys
import rl_zoo3.exp_manager
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import EvalCallback
import masked_module
from masked_envs import masked_envs, masked_teacher
from sb3_distill.zoo import enjoy, train
from sb3_distill.zoo.registration import ALGORITHMS

assert ALGORITHMS["n_distill_maskable_ppo"].__name__ == "NDistillMaskablePPO"
model = MaskablePPO("MlpPolicy", masked_envs(), n_steps=16, batch_size=16, device="cpu")
model.save("teacher.zip")
common = ["--algo", "n_distill_maskable_ppo", "--env", "masked_module:Masked-v0", "-f", "logs", "--device", "cpu"]
few = ["-n", "256", "--eval-freq", "128", "--eval-episodes", "3", "--seed", "0"]
params = ["-params", "teacher:'teacher.zip'", "n_envs:2", "n_steps:16", "n_epochs:1", "policy_kwargs:dict(net_arch=[8])"]
sys.argv[1:] = [*common, *few, *params]
assert train.main() == 0
assert rl_zoo3.exp_manager.EvalCallback is EvalCallback
sys.argv[1:] = [*common, "-n", "40", "--no-render"]
assert enjoy.main() == 0
"""


def test_they_take_no_forbidden_action(tmp_path):
    """The environment fails where one is taken."""
    (tmp_path / "masked_module.py").write_text(ENVIRONMENT)
    (tmp_path / "script.py").write_text(SCRIPT)
    paths = [str(tmp_path), str(Path(__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "eval/" in done.stdout and "Mean reward" in done.stdout
