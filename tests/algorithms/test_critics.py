"""A critic that learns from the teacher's value function: targets and advantages against loops over what the environment has said."""

import warnings

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from envs_for_tests import CountdownEnv, actor_critic_teacher
from sb3_distill import DistillA2C, DistillPPO, DistillTRPO, NDistill, OnPolicyDistill, TeacherDistill, load_teacher
from sb3_distill.algorithms.then_rl import rl_model

N_STEPS, N_ENVS, GAMMA = 16, 2, 0.9


class Noted(CountdownEnv):
    """With rewards of other sizes, and a note of each transition: s, r, s', whether it was the end, whether it was cut."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def reset(self, **kwargs):
        self.obs, info = super().reset(**kwargs)
        return self.obs, info

    def step(self, action):
        obs, _, over, cut, info = super().step(action)
        reward = float(10 * obs[0])
        self.steps.append((self.obs, reward, obs, over, cut))
        self.obs = obs
        return obs, reward, over, cut, info


def rollout_of(algorithm, critic, normalise, **kwargs):
    """What the environments have said in one rollout, what the buffer holds in the end, and the unit of rewards then."""
    notes = [[] for _ in range(N_ENVS)]
    env = DummyVecEnv([lambda k=k: Noted(notes[k]) for k in range(N_ENVS)])
    if normalise:
        env = VecNormalize(env, norm_obs=False)
    teacher = actor_critic_teacher(CountdownEnv())
    teacher.value_scale = 3.0  # as of one that was trained on normalised rewards
    settings = dict(n_steps=N_STEPS, gamma=GAMMA, seed=0, device="cpu", policy_kwargs=dict(net_arch=[8]), critic=critic)
    if algorithm is not DistillA2C:
        settings["batch_size"] = 16
    model = algorithm("MlpPolicy", env, teacher=teacher, **settings | kwargs)
    model.train = lambda: None
    model.learn(N_STEPS * N_ENVS)
    unit = np.sqrt(env.ret_rms.var + env.epsilon) if normalise else 1.0
    return teacher, notes, model.rollout_buffer, unit


def value(teacher, obs):
    with th.no_grad():
        return 3.0 * float(teacher.policy.predict_values(th.as_tensor(obs[None])))


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(
    ("algorithm", "kwargs"),
    [
        (OnPolicyDistill, {}),
        (TeacherDistill, {}),
        (NDistill, {}),
        (DistillA2C, {}),
        (DistillTRPO, {"method": "entropy_regularised"}),
    ],
)
def test_the_critic_learns_the_teachers_value(algorithm, kwargs, normalise):
    """V_π(s_t), in the units of the rewards that the student is given; whoever acts."""
    teacher, notes, buffer, unit = rollout_of(algorithm, "teacher", normalise, **kwargs)
    for k in range(N_ENVS):
        for t in range(N_STEPS):
            assert buffer.returns[t, k] == pytest.approx(value(teacher, notes[k][t][0]) / unit, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("normalise", [False, True])
def test_td(normalise):
    """r_t + γ V_π(s_{t+1}): nothing after an end, the value of the last state after a time limit; both occur here."""
    teacher, notes, buffer, unit = rollout_of(OnPolicyDistill, "td", normalise, env_reward_coef=1.0)
    ends = [(over, cut) for note in notes for _, _, _, over, cut in note]
    assert (True, False) in ends
    assert (False, True) in ends
    for k in range(N_ENVS):
        for t in range(N_STEPS):
            _, reward, after, over, _ = notes[k][t]
            target = (reward + (0.0 if over else GAMMA * value(teacher, after))) / unit
            assert buffer.returns[t, k] == pytest.approx(target, rel=1e-4, abs=1e-5)
            assert buffer.advantages[t, k] == pytest.approx(target - buffer.values[t, k], rel=1e-4, abs=1e-4)


def test_td_beside_a_reward_of_the_row():
    """The advantage of r̂ is its own sum with any critic, and that of the environment's reward, weighed, is made of the target."""
    kwargs = dict(env_reward_coef=1.0, reward_coef=3.0, gae_lambda=0.5)
    (_, notes, td, unit), (_, _, gae, _) = (
        rollout_of(NDistill, critic, True, **kwargs) for critic in ("td", "teacher")
    )
    assert np.array_equal(td.values, gae.values)
    of_env = np.zeros((N_STEPS, N_ENVS))
    for k in range(N_ENVS):
        later = 0.0
        for t in reversed(range(N_STEPS)):
            # SB3 has added γ V_πθ of the last state to the reward where a time limit has cut an episode.
            ends = notes[k][t][3] or notes[k][t][4]
            after = 0.0 if ends or t == N_STEPS - 1 else gae.values[t + 1, k]
            if t == N_STEPS - 1:
                break_off = not ends
            delta = gae.rewards[t, k] + GAMMA * after - gae.values[t, k]
            later = delta + GAMMA * 0.5 * later * (not ends)
            of_env[t, k] = later
        if break_off:  # what follows is not in the buffer: leave that episode out
            last = max((t for t in range(N_STEPS) if notes[k][t][3] or notes[k][t][4]), default=-1)
            of_env[last + 1 :, k] = np.nan
    expected = 0.25 * unit * (td.returns - td.values - of_env)
    seen = ~np.isnan(of_env)
    np.testing.assert_allclose((td.advantages - gae.advantages)[seen], expected[seen], rtol=1e-3, atol=1e-4)


def test_a_q_network():
    """Σ_a π(a|s) Q(s, a)."""
    teacher = load_teacher("zoo:dqn/CartPole-v1", temperature=1.0, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        student = OnPolicyDistill(
            "MlpPolicy", "CartPole-v1", teacher=teacher, critic="teacher", gamma=teacher.gamma, n_steps=64, seed=0
        )
    student.train = lambda: None
    student.learn(64)
    obs = student.rollout_buffer.observations[:, 0]
    expected = (teacher.answer(obs).parameters.exp() * teacher.q_values(obs)).sum(-1)
    np.testing.assert_allclose(student.rollout_buffer.returns[:, 0], expected, rtol=1e-5)


def test_it_learns_and_says_which_discount(tmp_path):
    """The critic has a weight by itself and moves; a discount that differs is named, and reinforcement takes the teacher's."""
    teacher = load_teacher("zoo:dqn/CartPole-v1", temperature=0.1, device="cpu")
    assert teacher.gamma == 0.99
    with pytest.warns(UserWarning, match=r"gamma=0\.99, and the student's is of gamma=0\.5"):
        student = OnPolicyDistill(
            "MlpPolicy", "CartPole-v1", teacher=teacher, critic="teacher", gamma=0.5, seed=0, device="cpu"
        )
    assert student.vf_coef == 0.5
    assert rl_model(student).gamma == 0.99
    before = student.policy.value_net.weight.clone()
    student.learn(128)
    assert not th.equal(before, student.policy.value_net.weight)
    student.save(tmp_path / "student")
    assert OnPolicyDistill.load(tmp_path / "student").critic == "teacher"
    assert OnPolicyDistill.settings("CartPole-v1", critic="td")["critic"] == "td"


def test_bad_input():
    env, teacher = DummyVecEnv([CountdownEnv]), actor_critic_teacher(CountdownEnv())
    with pytest.raises(ValueError, match="Unknown critic 'teachers': choose one of 'teacher', 'td'"):
        DistillPPO("MlpPolicy", env, teacher=teacher, critic="teachers")
    with pytest.raises(ValueError, match="has critic='teacher', and with vf_coef=0"):
        DistillPPO("MlpPolicy", env, teacher=teacher, critic="teacher", vf_coef=0.0)
    teacher.has_value = False
    with pytest.raises(ValueError, match="with critic='td' needs the teacher's value function"):
        DistillPPO("MlpPolicy", env, teacher=teacher, critic="td")
