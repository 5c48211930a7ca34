"""Trains the bundled teacher: a DQN on CartPole-v1, with the RL Zoo's tuned hyperparameters, in the RL Zoo's layout.

``python -m sb3_distill.zoo.train_teacher --out zoo/agents`` made what is in ``zoo/agents``.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env

from sb3_distill.evaluation import episode_returns, standard_error

#: of DQN on CartPole-v1 in the RL Zoo
HYPERPARAMETERS: dict[str, Any] = {
    "policy": "MlpPolicy",
    "n_timesteps": 50_000,
    "learning_rate": 2.3e-3,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1_000,
    "gamma": 0.99,
    "target_update_interval": 10,
    "train_freq": 256,
    "gradient_steps": 128,
    "exploration_fraction": 0.16,
    "exploration_final_eps": 0.04,
    "policy_kwargs": {"net_arch": [256, 256]},
}


def train_teacher(out: Path, seed: int = 0, env_id: str = "CartPole-v1") -> Path:
    """
    Train a DQN, keep its best checkpoint by 20 evaluation episodes, and file it as the RL Zoo does.

    :param out: folder of agents; ``dqn/ENV_1`` in it is replaced once the new agent is complete
    :param seed: of everything random
    :param env_id: a Gymnasium id
    :return: the agent's folder
    """
    settings = {k: v for k, v in HYPERPARAMETERS.items() if k not in ("n_timesteps", "policy")}
    folder = out / "dqn" / f"{env_id}_1"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        new = Path(name) / folder.name
        (new / env_id).mkdir(parents=True)
        model = DQN(HYPERPARAMETERS["policy"], make_vec_env(env_id, seed=seed), seed=seed, device="cpu", **settings)
        evaluation = EvalCallback(
            make_vec_env(env_id, seed=seed + 1),
            eval_freq=2_560,
            n_eval_episodes=20,
            best_model_save_path=name,
            verbose=0,
        )
        model.learn(HYPERPARAMETERS["n_timesteps"], callback=evaluation, progress_bar=True)
        best = DQN.load(Path(name) / "best_model.zip", device="cpu")
        best.save(new / f"{env_id}.zip")
        (new / env_id / "config.yml").write_text(yaml.safe_dump(HYPERPARAMETERS))
        (new / env_id / "args.yml").write_text(yaml.safe_dump({"algo": "dqn", "env": env_id, "seed": seed}))
        returns = episode_returns(lambda obs: best.predict(obs, deterministic=True)[0], env_id, seed=10_000)
        np.savez(new / "evaluations.npz", results=returns[None], timesteps=np.array([best.num_timesteps]))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(new, folder)
    print(f"{folder}: {returns.mean():.1f} ± {standard_error(returns):.1f} over {len(returns)} episodes")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "agents")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    train_teacher(arguments.out, arguments.seed)
