"""From a student to a plain PPO, A2C or TRPO: the same policy, settings for reinforcement, and a leash that lets go."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import TRPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from envs_for_tests import ACTION_SPACES, CountdownEnv, actor_critic_teacher
from sb3_distill import DistillA2C, Leash, OnPolicyDistill, then_rl
from sb3_distill.algorithms.critic_warmup import CriticWarmup
from sb3_distill.algorithms.then_rl import rl_callbacks, rl_model

BOX = ACTION_SPACES["box"]


def env(action_space=None, **kwargs):
    return DummyVecEnv([lambda: CountdownEnv(action_space=action_space, **kwargs)] * 2)


def student_of(engine=OnPolicyDistill, action_space=None, wrap=lambda env: env, **kwargs):
    teacher = actor_critic_teacher(CountdownEnv(action_space=action_space))
    settings = dict(n_steps=16, policy_kwargs=dict(net_arch=[8]), seed=1, device="cpu") | kwargs
    return (
        engine("MlpPolicy", wrap(env(action_space)), teacher=teacher, method="on_policy_distill", **settings)
        if (engine is DistillA2C)
        else engine("MlpPolicy", wrap(env(action_space)), teacher=teacher, batch_size=16, **settings)
    )


def same_policy(a, b):
    return all(th.equal(x, y) for x, y in zip(a.policy.parameters(), b.policy.parameters(), strict=True))


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "trpo"])
@pytest.mark.parametrize("engine", [OnPolicyDistill, DistillA2C])
def test_the_same_policy_in_a_plain_model(engine, algorithm):
    """With a critic that learns, whatever the student's had, and an optimiser that begins anew and is the algorithm's own."""
    student = student_of(engine, BOX).learn(32)
    assert student.vf_coef == 0 or engine is DistillA2C
    model = rl_model(student, algorithm)
    fresh = {"ppo": PPO, "a2c": A2C, "trpo": TRPO}[algorithm]
    assert type(model) is fresh
    assert same_policy(model, student)
    assert algorithm == "trpo" or model.vf_coef == 0.5  # TRPO's critic has updates of its own
    assert model.gamma == 0.99
    assert not model.policy.optimizer.state
    assert type(model.policy.optimizer) is type(
        fresh("MlpPolicy", student.env, n_steps=2, device="cpu").policy.optimizer
    )


def test_settings_are_of_the_kind_of_action():
    """And whoever gives others has them."""
    box, discrete = rl_model(student_of(action_space=BOX)), rl_model(student_of())
    assert (box.n_steps * 2, box.batch_size, box.target_kl, box.learning_rate) == (4_096, 256, 0.01, 1e-4)
    assert (discrete.n_steps * 2, discrete.batch_size, discrete.target_kl) == (2_048, 128, 0.01)
    given = rl_model(student_of(), n_steps=30, gamma=0.9, learning_rate=1e-3, ent_coef=0.1)
    assert (given.n_steps, given.batch_size, given.gamma, given.learning_rate, given.ent_coef) == (
        30,
        60,
        0.9,
        1e-3,
        0.1,
    )


def test_a_leash_that_would_do_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^TRPO has no leash, its target_kl holds it, and leash=2.0 would do nothing"):
        student_of().then_rl(32, algorithm="trpo", leash=2.0)


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "trpo"])
def test_then_rl_trains_and_is_saved_plain(algorithm, tmp_path):
    """What is saved opens where this package is not."""
    student = student_of().learn(32)
    before = [p.clone() for p in student.policy.parameters()]
    model = student.then_rl(160, algorithm=algorithm, n_steps=16, **({} if algorithm == "a2c" else {"batch_size": 16}))
    assert model.num_timesteps == 160
    assert not same_policy(model, student)
    assert all(th.equal(a, b) for a, b in zip(before, student.policy.parameters(), strict=True))
    model.save(tmp_path / "model")
    package, name = ("sb3_contrib", "TRPO") if algorithm == "trpo" else ("stable_baselines3", algorithm.upper())
    code = f"import sys\nsys.modules['sb3_distill'] = None\nfrom {package} import {name}\n{name}.load({str(tmp_path / 'model')!r})"
    if algorithm == "ppo":
        subprocess.run([sys.executable, "-c", code], check=True)
    student.learn(32, reset_num_timesteps=False)  # its environment was played by another


def test_callbacks_fit_the_run():
    """The critic has no more than a quarter alone; the leash is TRPO's own trust region there."""
    model = rl_model(student_of())
    warmup, leash = rl_callbacks(model, 100_000)
    assert (type(warmup), type(leash)) == (CriticWarmup, Leash)
    assert warmup.n_rollouts == 4
    assert rl_callbacks(model, 8_192)[0].n_rollouts == 1
    assert rl_callbacks(model, 100, 3, 0.0)[0].n_rollouts == 3
    assert len(rl_callbacks(model, 100, 3, 0.0)) == 1
    assert len(rl_callbacks(rl_model(student_of(), "trpo"), 100_000)) == 1


@pytest.mark.parametrize("kind", ACTION_SPACES)
@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_the_leash_is_the_gradient_of_the_kl(algorithm, kind):
    """One step of SGD with and without it: their difference is coef · ∇KL(π_0‖π_θ), computed apart."""
    space = ACTION_SPACES[kind]
    settings = dict(n_steps=16, max_grad_norm=1e9, learning_rate=0.1, seed=0, device="cpu")
    settings |= dict(batch_size=32, n_epochs=1) if algorithm is PPO else {}
    settings["policy_kwargs"] = dict(net_arch=[], optimizer_class=th.optim.SGD)
    other = algorithm("MlpPolicy", env(space), **settings | {"seed": 5}).policy

    def stepped(callback):
        model = algorithm("MlpPolicy", env(space), **settings)
        before = [p.detach().clone() for p in model.policy.parameters()]
        model.learn(32, callback=callback)
        return model, before, [a.detach() - b for a, b in zip(model.policy.parameters(), before, strict=True)]

    _, _, without = stepped(None)
    model, before, leashed = stepped(Leash(2.0, other))
    with th.no_grad():
        for p, value in zip(model.policy.parameters(), before, strict=True):
            p.copy_(value)
    obs = th.as_tensor(model.rollout_buffer.observations).reshape(32, -1)
    kl = _kl(other.get_distribution(obs).distribution, model.policy.get_distribution(obs).distribution)
    grads = th.autograd.grad(kl, list(model.policy.parameters()), allow_unused=True)
    for with_it, plain, grad in zip(leashed, without, grads, strict=True):
        expected = 0 * plain if grad is None else -0.1 * 2.0 * grad
        th.testing.assert_close(with_it - plain, expected, atol=2e-6, rtol=1e-4)


def _kl(p, q):
    factors = zip(p, q, strict=True) if isinstance(p, list) else [(p, q)]
    total = 0
    for a, b in factors:
        kl = th.distributions.kl_divergence(a, b)
        total = total + (kl if kl.ndim == 1 else kl.sum(-1))
    return total.mean()


def test_the_leash_lets_go():
    """It holds while it lasts, and without a weight the update is SB3's to the bit."""

    def learnt(callback):
        model = PPO("MlpPolicy", env(), n_steps=16, batch_size=16, seed=0, device="cpu")
        model.learn(64, callback=callback)
        return model

    free = learnt(None)
    assert same_policy(free, learnt(Leash(0.0)))
    assert same_policy(free, learnt(Leash(LinearSchedule(0.0, 0.0, 0.5))))
    held, start = learnt(Leash(1e3)), PPO("MlpPolicy", env(), n_steps=16, batch_size=16, seed=0, device="cpu")

    def moved(model):
        obs = th.zeros(1, 3)
        return float(
            (
                model.policy.get_distribution(obs).distribution.logits
                - start.policy.get_distribution(obs).distribution.logits
            )
            .abs()
            .max()
        )

    assert moved(held) < 0.5 * moved(free)
    logged = []
    model = PPO("MlpPolicy", env(), n_steps=16, batch_size=16, seed=0, device="cpu")
    model.learn(32)  # SB3 keeps what was left of the run before until the next one's first update
    model.set_logger(Logger(None, []))
    model.logger.record = lambda key, value, *_, **__: logged.append(value) if key == "train/leash_coef" else None
    model.learn(128, callback=Leash(LinearSchedule(1.0, 0.0, 0.5)))
    assert logged == [0.5, 0.0, 0.0, 0.0]


def test_normalised_observations():
    """The student's environment goes on with its statistics; another one must show what the student saw."""
    student = student_of(wrap=lambda env: VecNormalize(env, norm_reward=True)).learn(32)
    model = student.then_rl(32, n_steps=16, batch_size=16)
    assert model.get_vec_normalize_env() is student.get_vec_normalize_env()
    with pytest.raises(ValueError, match="saw observations of a VecNormalize"):
        then_rl(student, 32, env=env())
    with pytest.raises(ValueError, match="saw observations as they are"):
        then_rl(student_of(), 32, env=VecNormalize(env()))
    then_rl(student_of(), 32, env=VecNormalize(env(), norm_obs=False), n_steps=16, batch_size=16)


def test_a_policy_that_was_cloned_elsewhere(tmp_path):
    PPO("MlpPolicy", env(), n_steps=16, batch_size=16, device="cpu").save(tmp_path / "cloned")
    cloned = PPO.load(tmp_path / "cloned")
    with pytest.raises(ValueError, match="has no environment"):
        then_rl(cloned, 32)
    assert then_rl(cloned, 32, env=env(), n_steps=16, batch_size=16).num_timesteps == 32
    assert isinstance(then_rl(cloned, 32, env=CountdownEnv(), n_steps=16, batch_size=16), PPO)


def test_bad_input():
    student = student_of()
    for steps in (0, -1, 1.5, True, "many"):
        with pytest.raises(ValueError, match="total_timesteps must be"):
            then_rl(student, steps)
    with pytest.raises(ValueError, match="Unknown algorithm 'pop'"):
        then_rl(student, 32, algorithm="pop")
    with pytest.raises(ValueError, match="algorithm must be"):
        then_rl(student, 32, algorithm=DQN)
    with pytest.raises(TypeError, match="PPO has no setting 'gama'"):
        then_rl(student, 32, gama=0.9)
    with pytest.raises(ValueError, match="saw other observations"):
        then_rl(student, 32, env=env(observation_space=spaces.Box(-1.0, 1.0, (4,), np.float32)))
    with pytest.raises(ValueError, match="saw other observations"):
        then_rl(student, 32, env="CartPole-v1")
    with pytest.raises(ValueError, match="has other actions"):
        then_rl(student, 32, env=env(BOX))
    with pytest.raises(ValueError, match="student='ppo'"):
        then_rl(DQN("MlpPolicy", gym.make("CartPole-v1"), device="cpu"), 32)
    for coef in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be at least 0"):
            Leash(coef)
    with pytest.raises(ValueError, match="target_kl holds it"):
        TRPO("MlpPolicy", env(), n_steps=16, device="cpu").learn(32, callback=Leash())
    with pytest.raises(ValueError, match="Leash has the action_space"):
        PPO("MlpPolicy", env(), n_steps=16, batch_size=16).learn(
            32, callback=Leash(1.0, student_of(action_space=BOX).policy)
        )


@pytest.mark.parametrize("named", [True, False])
def test_a_student_whose_environment_was_played_by_another_begins_anew(named):
    student = student_of().learn(32)
    then_rl(student, 32, n_steps=16, env=student.env if named else None)
    assert student._last_obs is None


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(gamma=2.0), "gamma must lie between 0 and 1"),
        (dict(n_steps=0), "n_steps must be at least 1"),
        (dict(policy_kwargs=dict(net_arch=[4])), "is the student's, and so are its policy_kwargs"),
        (dict(leash=lambda left: left), "leash must be a number of at least 0"),
        (dict(leash=-1.0), "leash must be a number of at least 0"),
        (dict(seed="a"), r"seed must be a whole number from 0 to 2\*\*32 - 1, or None, not 'a'"),
        (dict(seed=-1), "seed must be a whole number"),
        (dict(warmup=1.5), "warmup must be a whole number of at least 0, not 1.5"),
        (dict(log_interval=0), "log_interval must be a whole number"),
        (dict(callback=3), "callback must be a callback of SB3's"),
        (dict(learning_rate="a"), "learning_rate must be a number or a schedule"),
        (dict(env=3), "env must be an environment"),
        (dict(env="CartPol-v1"), "Unknown environment 'CartPol-v1'"),
        (dict(total_timesteps=1e3), r"not 1000\.0, which is a float: write 1_000"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_work(given, message):
    with pytest.raises(ValueError, match=message):
        then_rl(student_of(), **({"total_timesteps": 32} | given))


def test_a_warm_up_as_long_as_the_run_is_said():
    with pytest.warns(UserWarning, match="The critic alone has learnt in all 2 rollouts so far"):
        then_rl(student_of(), 64, n_steps=16, warmup=5)
