"""The weights that small runs end with, to the bit: ``python -m tests.tools.digests save FILE``, and after a change ``compare FILE``.

Every row on both engines, policy distillation while playing and from memories, and several tasks, in CartPole, with ``Dict``
observations and with stacked frames. Arithmetic differs between processors and versions of torch, so a file is compared where it was saved.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecTransposeImage

sys.path.insert(0, str(Path(__file__).parents[1]))

from envs_for_tests import DICT_SPACE, IMAGE_SPACE, CountdownEnv, actor_critic_teacher
from sb3_distill import DistillA2C, DistillPPO, MultiTaskDistillation, PolicyDistillation
from sb3_distill.memory import record
from sb3_distill.rules.methods import METHODS

SEED = 5
ENGINES: dict[str, tuple[type, dict[str, Any]]] = {
    "PPO": (DistillPPO, dict(n_steps=16, batch_size=16, n_epochs=2)),
    "A2C": (DistillA2C, dict(n_steps=8)),
}


def cartpole(n_envs: int) -> VecEnv:
    """:param n_envs: how many"""
    return make_vec_env("CartPole-v1", n_envs, seed=SEED)


def dict_env(n_envs: int) -> VecEnv:
    """:param n_envs: how many"""
    env = DummyVecEnv([lambda: CountdownEnv(DICT_SPACE)] * n_envs)
    env.seed(SEED)
    return env


def frames(n_envs: int) -> VecEnv:
    """:param n_envs: how many"""
    env = VecFrameStack(DummyVecEnv([lambda: CountdownEnv(IMAGE_SPACE)] * n_envs), 3)
    env.seed(SEED)
    return env


WORLDS: dict[str, tuple[Callable[[int], VecEnv], str]] = {
    "CartPole": (cartpole, "MlpPolicy"),
    "Dict": (dict_env, "MultiInputPolicy"),
    "frames": (frames, "CnnPolicy"),
}


def teacher_of(env: VecEnv) -> Any:
    """:param env: what it reads; its weights are random"""
    return actor_critic_teacher(VecTransposeImage(env) if env.observation_space.shape == (36, 36, 3) else env)


def on_policy(world: str, engine: str, method: str) -> BaseAlgorithm:
    """
    :param world: of ``WORLDS``
    :param engine: of ``ENGINES``
    :param method: a row
    :return: a student after five rollouts
    """
    make, policy = WORLDS[world]
    algorithm, settings = ENGINES[engine]
    env = make(4)
    model = algorithm(policy, env, teacher=teacher_of(env), method=method, seed=SEED, device="cpu", **settings)
    return model.learn(5 * 4 * model.n_steps)


def offline(world: str, source: str) -> BaseAlgorithm:
    """
    :param world: of ``WORLDS``
    :param source: ``"playing"``, or ``"disk"``: from a memory that was recorded before
    :return: a student of a teacher's answers
    """
    make, policy = WORLDS[world]
    env = make(2)
    teacher = teacher_of(env)
    settings: dict[str, Any] = dict(student="ppo", seed=SEED, device="cpu", batch_size=16)
    if source == "playing":
        return PolicyDistillation(policy, env, teacher=teacher, buffer_size=400, **settings).learn(200)
    with tempfile.TemporaryDirectory() as folder:
        memory = record(teacher, env, 200, Path(folder) / "memory", seed=SEED)
        return PolicyDistillation(policy, memory=memory, **settings).learn(40)


def several_tasks() -> BaseAlgorithm:
    """:return: a student of two teachers"""
    envs = {"a": cartpole(1), "b": DummyVecEnv([CountdownEnv])}
    envs["b"].seed(SEED)
    teachers = {name: teacher_of(env) for name, env in envs.items()}
    model = MultiTaskDistillation(
        "MlpPolicy", envs, teacher=teachers, student="ppo", buffer_size=200, batch_size=16, seed=SEED, device="cpu"
    )
    return model.learn(200)


def cases() -> Iterator[tuple[str, Callable[[], BaseAlgorithm]]]:
    """:return: names and what makes a student"""
    for world in WORLDS:
        for engine in ENGINES:
            for method in METHODS["unbiased"]:
                yield f"{world} {engine} {method}", partial(on_policy, world, engine, method)
        for source in ("playing", "disk"):
            yield f"{world} policy distillation, {source}", partial(offline, world, source)
    yield "several tasks", several_tasks


def digest(model: BaseAlgorithm) -> str:
    """
    :param model: any
    :return: of all weights and buffers of its policy
    """
    sum_ = hashlib.sha256()
    for name, value in sorted(model.policy.state_dict().items()):
        sum_.update(name.encode())
        sum_.update(value.detach().cpu().contiguous().numpy().tobytes())
    return sum_.hexdigest()[:16]


def main(argv: list[str] | None = None) -> int:
    """
    :param argv: arguments, by default the command line's
    :return: 1 if anything differs
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("save", "compare"))
    parser.add_argument("file", type=Path)
    args = parser.parse_args(argv)
    th.set_num_threads(1)
    found = {name: digest(make()) for name, make in cases()}
    if args.what == "save":
        args.file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{len(found)} digests are in {args.file}.")
        return 0
    before = json.loads(args.file.read_text(encoding="utf-8"))
    changed = sorted(name for name in before.keys() | found.keys() if before.get(name) != found.get(name))
    for name in changed:
        print(f"{name}: {before.get(name)} before, {found.get(name)} now")
    same = sum(before.get(name) == value for name, value in found.items())
    print(f"{same} of {len(found)} end with the same weights.")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
