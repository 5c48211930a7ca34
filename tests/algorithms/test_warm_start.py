"""A policy that SB3's own algorithms have trained learns on from a teacher, and a student's settings do not get lost on the way."""

import io

import pytest
import torch as th
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from envs_for_tests import DICT_SPACE, CountdownEnv, actor_critic_teacher
from sb3_distill import DistillA2C, DistillPPO, NDistill, NDistillA2C

PLAIN = {PPO: dict(n_steps=16, batch_size=16), A2C: {}}


def env(n_envs=2, **kwargs):
    return DummyVecEnv([lambda: CountdownEnv(**kwargs)] * n_envs)


def saved(algorithm, path, policy="MlpPolicy", **kwargs):
    settings = PLAIN.get(algorithm, {})
    model = algorithm(policy, env(**kwargs) if algorithm is not DQN else env(1), device="cpu", **settings)
    model.learn(32)
    model.save(path)
    return model


def same_weights(a, b):
    return all(th.equal(x, y) for x, y in zip(a.policy.parameters(), b.policy.parameters(), strict=True))


@pytest.mark.parametrize("algorithm", [PPO, A2C])
@pytest.mark.parametrize("engine", [NDistill, NDistillA2C, DistillPPO, DistillA2C])
def test_load_of_what_sb3_has_saved(engine, algorithm, tmp_path):
    """With the settings of the file, and the row's own for what SB3 does not know; with other environments; from a buffer."""
    plain = saved(algorithm, tmp_path / "plain.zip")
    file = io.BytesIO((tmp_path / "plain.zip").read_bytes())
    for path in (tmp_path / "plain.zip", file):
        model = engine.load(path, env=env(4), teacher=actor_critic_teacher(CountdownEnv()), n_steps=16)
        assert same_weights(model, plain)
        assert (model.gamma, model.vf_coef, model.n_envs) == (plain.gamma, plain.vf_coef, 4)
        model.learn(128)
        assert not same_weights(model, plain)
    model.save(tmp_path / "student")
    assert same_weights(algorithm.load(tmp_path / "student"), model)


def test_load_of_a_dict_policy(tmp_path):
    saved(PPO, tmp_path / "plain", "MultiInputPolicy", observation_space=DICT_SPACE)
    teacher = actor_critic_teacher(CountdownEnv(DICT_SPACE))
    NDistill.load(tmp_path / "plain", env=env(observation_space=DICT_SPACE), teacher=teacher).learn(32)


@pytest.mark.parametrize("algorithm", [PPO, A2C])
@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
def test_set_parameters_of_what_sb3_has_saved(engine, algorithm, tmp_path, recwarn):
    """The student keeps its settings. A2C's RMSprop has nothing that Adam could go on from: that is said, and Adam begins anew."""
    plain = saved(algorithm, tmp_path / "plain")
    settings = dict(n_steps=16, batch_size=16) if engine is DistillPPO else dict(n_steps=8)
    model = engine("MlpPolicy", env(), teacher=actor_critic_teacher(CountdownEnv()), device="cpu", **settings)
    rate = model.learning_rate
    model.set_parameters(tmp_path / "plain", device="cpu")
    assert same_weights(model, plain)
    said = [w for w in recwarn if "another optimiser than this student's Adam" in str(w.message)]
    assert len(said) == (1 if algorithm is A2C else 0)
    assert bool(model.policy.optimizer.state) == (algorithm is PPO)
    assert model.learn(64).learning_rate == rate
    model.set_parameters(plain.get_parameters())
    assert same_weights(model, plain)


def test_a_q_network_is_no_student_of_theirs(tmp_path):
    saved(DQN, tmp_path / "dqn")
    with pytest.raises(ValueError, match=r"has an actor-critic policy, not DQNPolicy: give 'MlpPolicy'"):
        NDistill.load(tmp_path / "dqn")
