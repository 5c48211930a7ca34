"""Environments that pay the teacher's reward: what they pay, what they leave alone, and that SB3 learns from it."""

import doctest
import math
import re
import warnings
from copy import deepcopy
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from sb3_contrib import TRPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from envs_for_tests import ACTION_SPACES, DICT_SPACE, CountdownEnv, CountingTeacher, actor_critic_teacher
from sb3_distill import load_teacher
from sb3_distill.envs import LogTeacherReward, TeacherReward, VecTeacherReward
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns
from sb3_distill.teachers.actor_critic import ActorCriticTeacher
from sb3_distill.wrappers import teacher_reward

N_ENVS, N_STEPS = 3, 24
REWARDS = [("log_prob", "teacher_entropy"), ("log_prob", None), ("teacher_value", "teacher_entropy")]
ENDS = ("terminated", "truncated", "both")
SPACES = {
    "discrete": (None, ACTION_SPACES["discrete"]),
    "multi_discrete": (None, ACTION_SPACES["multi_discrete"]),
    "multi_binary": (None, ACTION_SPACES["multi_binary"]),
    "box": (None, ACTION_SPACES["box"]),
    "dict_observations": (DICT_SPACE, ACTION_SPACES["discrete"]),
}


class Ending(CountdownEnv):
    """Episodes of 2, 3, 4 and 5 steps in turn, which end in each of three ways; every step pays another amount."""

    def __init__(self, observation_space=None, action_space=None):
        super().__init__(deepcopy(observation_space), deepcopy(action_space))  # a random stream for each environment

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.episode, self.paid = seed, 0
        return super().reset(seed=seed, options=options)

    def step(self, action):
        obs, *_ = super().step(action)
        self.paid += 1
        end = ENDS[self.episode % 3] if self.step_count == 2 + self.episode % 4 else ""
        return obs, self.paid / 4 - 2, end in ("terminated", "both"), end in ("truncated", "both"), {}


def actions_for(kind, n=N_STEPS, seed=3):
    """Actions of n steps of N_ENVS environments."""
    space = deepcopy(SPACES[kind][1])
    space.seed(seed)
    return [np.stack([space.sample() for _ in range(N_ENVS)]) for _ in range(n)]


def batched(obs):
    """A batch of one."""
    return {key: value[None] for key, value in obs.items()} if isinstance(obs, dict) else obs[None]


def log_density(space, params, action):
    """log π(a|s) and H(π(s)) from the teacher's numbers, in numpy."""

    def categorical(logits, a):
        logits = logits - np.log(np.exp(logits).sum())
        return logits[a], -(np.exp(logits) * logits).sum()

    if isinstance(space, spaces.Discrete):
        return categorical(params, action)
    if isinstance(space, spaces.MultiDiscrete):
        parts = np.split(params, np.cumsum(space.nvec)[:-1])
        return np.sum([categorical(part, a) for part, a in zip(parts, action, strict=True)], axis=0)
    if isinstance(space, spaces.MultiBinary):
        return np.sum([categorical(np.array([0.0, x]), a) for x, a in zip(params, action, strict=True)], axis=0)
    mean, log_std = np.split(params, 2)
    log_prob = -0.5 * ((action - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
    return log_prob.sum(), (log_std + 0.5 * np.log(2 * np.pi * np.e)).sum()


def expected_rewards(kind, teacher, reward, shift, gamma, commands):
    """r̂ and r step by step, each environment alone, one state at a time, in float64."""
    paid, own, ends = np.zeros((N_STEPS, N_ENVS)), np.zeros((N_STEPS, N_ENVS)), {}
    for i in range(N_ENVS):
        env = Ending(*SPACES[kind])
        obs, _ = env.reset(seed=10 + i)
        for t in range(N_STEPS):
            following, own[t, i], terminated, truncated, _ = env.step(commands[t][i])
            if reward == "log_prob":
                params = teacher.answer(batched(obs)).parameters[0].double().numpy()
                log_prob, entropy = log_density(env.action_space, params, commands[t][i])
                paid[t, i] = log_prob + (entropy if shift else 0.0)
            else:
                future = 0.0 if terminated else gamma * teacher.value(batched(following)).item()
                paid[t, i] = own[t, i] + future - teacher.value(batched(obs)).item()
            if terminated or truncated:
                ends[t, i] = "both" if terminated and truncated else "terminated" if terminated else "truncated"
                following, _ = env.reset()
            obs = following
    assert set(ends.values()) == set(ENDS)
    return paid, own, ends


def vec_env(kind, n_envs=N_ENVS):
    """Seeded as expected_rewards() seeds them."""
    env = DummyVecEnv([lambda: Ending(*SPACES[kind])] * n_envs)
    env.seed(10)
    return env


def play_vec(env, commands):
    """Rewards, and r̂ from the infos."""
    env.reset()
    rewards, injected = [], []
    for command in commands:
        _, reward, _, infos = env.step(command)
        rewards.append(reward)
        injected.append([info["teacher_reward"] for info in infos])
    return np.array(rewards), np.array(injected)


def play_gym(make, commands):
    """The same through single environments."""
    rewards, injected = np.zeros((N_STEPS, N_ENVS)), np.zeros((N_STEPS, N_ENVS))
    for i in range(N_ENVS):
        env = make()
        env.reset(seed=10 + i)
        for t in range(N_STEPS):
            _, rewards[t, i], terminated, truncated, info = env.step(commands[t][i])
            injected[t, i] = info["teacher_reward"]
            if terminated or truncated:
                env.reset()
    return rewards, injected


# --- what is paid -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reward, shift", REWARDS)
@pytest.mark.parametrize("kind", SPACES)
def test_both_wrappers_pay_what_a_slow_computation_says(kind, reward, shift):
    """Step by step, through ends of all three kinds and automatic resets, in every kind of space."""
    teacher = actor_critic_teacher(Ending(*SPACES[kind]))
    commands = actions_for(kind)
    paid, _, _ = expected_rewards(kind, teacher, reward, shift, 0.9, commands)
    settings = dict(reward=reward, shift=shift, gamma=0.9)
    for rewards, injected in (
        play_vec(VecTeacherReward(vec_env(kind), teacher, **settings), commands),
        play_gym(lambda: TeacherReward(Ending(*SPACES[kind]), teacher, **settings), commands),
    ):
        np.testing.assert_allclose(injected, paid, rtol=2e-6, atol=2e-6)
        np.testing.assert_array_equal(rewards, injected)


def test_the_ends_of_episodes_matter_to_the_teachers_value():
    """What the test above relies on: a leak of the next episode's first state, or a wrong end, would be seen."""
    teacher = actor_critic_teacher(Ending())
    paid, own, ends = expected_rewards("discrete", teacher, "teacher_value", None, 0.9, actions_for("discrete"))
    env = VecTeacherReward(vec_env("discrete"), teacher, "teacher_value", gamma=0.9)
    obs = env.reset()
    checked = set()
    for t, command in enumerate(actions_for("discrete")):
        present, (obs, *_, infos) = teacher.value(obs), env.step(command)
        leaked = own[t] + (0.9 * teacher.value(obs) - present).numpy()
        for i in range(N_ENVS):
            if (t, i) not in ends:
                assert leaked[i] == pytest.approx(paid[t, i], abs=2e-6)
                continue
            last = 0.9 * teacher.value(batched(infos[i]["terminal_observation"])).item()
            assert abs(leaked[i] - paid[t, i]) > 1e-4
            assert abs(last) > 1e-4
            cut = own[t, i] - present[i].item()
            assert paid[t, i] == pytest.approx(cut + (last if ends[t, i] == "truncated" else 0.0), abs=2e-6)
            checked.add(ends[t, i])
    assert checked == set(ENDS)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_gamma_is_the_wrappers(gamma):
    """It stands in front of V_π(s_{t+1}), whatever the agent's own is."""
    teacher, commands = actor_critic_teacher(Ending()), actions_for("discrete")
    paid, _, _ = expected_rewards("discrete", teacher, "teacher_value", None, gamma, commands)
    injected = play_vec(VecTeacherReward(vec_env("discrete"), teacher, "teacher_value", gamma=gamma), commands)[1]
    np.testing.assert_allclose(injected, paid, rtol=2e-6, atol=2e-6)


def test_the_shift_is_the_teachers_entropy_and_belongs_to_log_prob():
    """Its own actions earn 0 on average; the teacher's value has no shift."""
    teacher = actor_critic_teacher(Ending())
    log_prob, value = (
        {
            shift: play_vec(VecTeacherReward(vec_env("discrete"), teacher, reward, shift), actions_for("discrete"))[1]
            for shift in teacher_reward.SHIFTS
        }
        for reward in ("log_prob", "teacher_value")
    )
    env, entropies = vec_env("discrete"), []
    obs = env.reset()
    for command in actions_for("discrete"):
        distribution = teacher.distribution(obs)
        probs = distribution.distribution.probs
        entropies.append(distribution.entropy().numpy())
        assert (probs * (probs.log() + distribution.entropy()[:, None])).sum(1).abs().max() < 1e-6
        obs = env.step(command)[0]
    np.testing.assert_allclose(log_prob["teacher_entropy"] - log_prob[None], entropies, rtol=1e-5)
    np.testing.assert_array_equal(value["teacher_entropy"], value[None])


@pytest.mark.parametrize("reward", teacher_reward.REWARDS)
@pytest.mark.parametrize("reward_coef, env_reward_coef", [(1.0, 0.0), (0.5, 2.0), (0.0, 1.0)])
def test_the_agent_gets_the_weighted_sum(reward, reward_coef, env_reward_coef):
    """reward_coef · r̂ + env_reward_coef · r; the info has r̂ itself."""
    teacher, commands = actor_critic_teacher(Ending()), actions_for("discrete")
    paid, own, _ = expected_rewards("discrete", teacher, reward, "teacher_entropy", 0.99, commands)
    settings = dict(reward=reward, reward_coef=reward_coef, env_reward_coef=env_reward_coef)
    for rewards, injected in (
        play_vec(VecTeacherReward(vec_env("discrete"), teacher, **settings), commands),
        play_gym(lambda: TeacherReward(Ending(), teacher, **settings), commands),
    ):
        np.testing.assert_allclose(rewards, reward_coef * paid + env_reward_coef * own, rtol=4e-6, atol=4e-6)
        np.testing.assert_allclose(injected, paid, rtol=2e-6, atol=2e-6)


def test_the_agents_rewards_are_an_array_of_its_own():
    """SB3 adds bootstrap values in place: the environment's rewards stay as they are, and so does the info."""
    teacher, kept = actor_critic_teacher(Ending()), []

    class Keeping(DummyVecEnv):
        def step_wait(self):
            result = super().step_wait()
            kept[:] = [result[1]]
            return result

    env = Keeping([Ending] * 2)
    env.seed(10)
    wrapped = VecTeacherReward(env, teacher, reward_coef=0.0, env_reward_coef=1.0)
    wrapped.reset()
    _, rewards, _, infos = wrapped.step(np.zeros(2, int))
    before = kept[0].copy(), [info["teacher_reward"] for info in infos]
    rewards += 100.0
    np.testing.assert_array_equal(kept[0], before[0])
    assert [info["teacher_reward"] for info in infos] == before[1]


def cartpole_teacher(temperature=0.1):
    """The bundled agent."""
    return load_teacher("zoo:dqn/CartPole-v1", temperature=temperature)


@pytest.mark.parametrize("reward", teacher_reward.REWARDS)
@pytest.mark.parametrize("vectorised", [True, False])
def test_the_teacher_is_asked_about_each_state_once(reward, vectorised):
    """Also where episodes end: the last state of an episode, where it is wanted, and the first of the next."""
    teacher, n_envs, n_steps = CountingTeacher(cartpole_teacher()), 3 if vectorised else 1, 60

    def make():
        return gym.make("CartPole-v1", max_episode_steps=15)

    truncations = resets = 0
    commands = np.random.default_rng(0).integers(0, 2, (n_steps, n_envs))
    if vectorised:
        env = VecTeacherReward(DummyVecEnv([make] * n_envs), teacher, reward)
        env.seed(0)
        env.reset()
        for command in commands:
            _, _, dones, infos = env.step(command)
            truncations += sum(info["TimeLimit.truncated"] for info in infos)
            resets += dones.sum()
        expected = n_envs * (n_steps + 1) + (truncations if reward == "teacher_value" else 0)
        questions = 1 + n_steps
    else:
        env = TeacherReward(make(), teacher, reward)
        env.reset(seed=0)
        for command in commands:
            _, _, terminated, truncated, _ = env.step(command[0])
            truncations += truncated and not terminated
            if terminated or truncated:
                env.reset()
                resets += 1
        questions = expected = 1 + n_steps + resets
    assert 0 < truncations < resets  # both kinds of end took part
    assert len(teacher.seen) == questions
    states = np.concatenate(teacher.seen)
    assert len(states) == len(np.unique(states, axis=0)) == expected


# --- what is left alone -----------------------------------------------------------------------------------------------


class Cautious:
    """Plays the environment's middle; an agent for evaluate_policy."""

    def predict(self, obs, state=None, episode_start=None, deterministic=True):
        return (obs[:, 2] > 0).astype(int), state


@pytest.mark.parametrize("monitored", [True, False])
def test_the_environments_own_return_is_reported_by_the_gym_wrapper(monitored):
    """To Monitor and evaluate_policy, with one Monitor, whether the environment came with it or not."""
    inner = gym.make("CartPole-v1")
    env = TeacherReward(Monitor(inner) if monitored else inner, cartpole_teacher())
    layers, layer = [], env
    while isinstance(layer, gym.Wrapper):
        layers.append(type(layer))
        layer = layer.env
    assert layers.count(Monitor) == 1
    env.reset(seed=0)
    total, steps, over = 0.0, 0, False
    while not over:
        _, reward, terminated, truncated, info = env.step(1)
        total, steps, over = total + reward, steps + 1, terminated or truncated
    assert info["episode"]["r"] == info["episode"]["l"] == steps  # CartPole pays 1 a step
    assert total != steps
    returns, lengths = evaluate_policy(Cautious(), env, n_eval_episodes=3, return_episode_rewards=True)
    assert returns == lengths


def test_the_environments_own_return_is_reported_by_the_vectorised_wrapper():
    """To evaluate_policy, whether a Monitor or a VecMonitor is inside."""
    for env in (make_vec_env("CartPole-v1", 2, seed=0), VecMonitor(DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2))):
        wrapped = VecTeacherReward(env, cartpole_teacher())
        returns, lengths = evaluate_policy(
            Cautious(), wrapped, n_eval_episodes=4, return_episode_rewards=True, warn=False
        )
        assert returns == lengths


class Capture(KVWriter):
    """Keeps what is logged."""

    def __init__(self):
        self.rows = []

    def write(self, key_values, key_excluded, step=0):
        self.rows.append(dict(key_values))

    def close(self):
        pass


class KeepBuffer(BaseCallback):
    """Means of the rewards in the rollout buffer, and the returns of the episodes that it saw end."""

    def _init_callback(self):
        self.means, self.returns = [], []

    def _on_step(self):
        for info in self.locals["infos"]:
            if "episode" in info:
                self.returns.append((info["episode"]["r"], info["episode"]["l"]))
        return True

    def _on_rollout_end(self):
        self.means.append(self.model.rollout_buffer.rewards.mean())


@pytest.mark.parametrize("vectorised", [True, False])
def test_logs_have_the_mean_of_the_injected_reward_and_the_environments_return(vectorised):
    """distill/reward is the mean over each rollout; ep_rew_mean is the environment's own, as ep_len_mean."""
    teacher = cartpole_teacher()
    if vectorised:
        env = VecTeacherReward(make_vec_env("CartPole-v1", 4, seed=0), teacher)
    else:
        env = TeacherReward(gym.make("CartPole-v1"), teacher)
    model, capture, keep = PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, seed=0), Capture(), KeepBuffer()
    model.set_logger(Logger(None, [capture]))
    model.learn(2 * model.n_envs * 64, CallbackList([keep, LogTeacherReward()]), log_interval=1)
    assert len(keep.means) == len(capture.rows) == 2
    assert keep.means[0] != keep.means[1]
    assert keep.returns
    assert all(r == length for r, length in keep.returns)
    for row, mean in zip(capture.rows, keep.means, strict=True):
        assert row["distill/reward"] == pytest.approx(mean, rel=1e-5)
        assert row["rollout/ep_rew_mean"] == row["rollout/ep_len_mean"]


def test_vec_normalize_goes_outside():
    """There it normalises what the agent sees; the teacher reads raw states, so r̂ is the same without it."""
    teacher, commands = actor_critic_teacher(Ending()), actions_for("discrete")
    _, plain = play_vec(VecTeacherReward(vec_env("discrete"), teacher, "teacher_value"), commands)
    normalized = VecNormalize(VecTeacherReward(vec_env("discrete"), teacher, "teacher_value"))
    rewards, injected = play_vec(normalized, commands)
    np.testing.assert_array_equal(injected, plain)
    assert not np.allclose(rewards, plain)
    assert normalized.obs_rms.count > N_STEPS


@pytest.mark.filterwarnings("ignore:.*(different from the unwrapped version|Box observation space).*")
def test_the_documented_example_runs_without_a_word():
    """Of one environment, directly under SB3: no second Monitor is put around it, and its own return is what is told."""
    page = (Path(__file__).parents[2] / "docs" / "teacher_reward.md").read_text(encoding="utf-8")
    (example,) = (
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "import TeacherReward" in block
    )
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        exec(example.replace("20_000", "512"), names)
    episodes = names["student"].ep_info_buffer
    assert len(episodes) > 5 and all(episode["r"] == episode["l"] for episode in episodes)  # 1 a step


def test_gymnasiums_own_checks_pass():
    """The wrapper keeps to the interface: types, seeds, spaces."""
    env = TeacherReward(gym.make("CartPole-v1"), cartpole_teacher())
    # The check of close() makes the environment anew from its spec, which no environment in SB3's Monitor allows.
    check_env(env, skip_render_check=True, skip_close_check=True)


def test_the_module_doctest_runs():
    """What the module's docstring shows is what happens."""
    result = doctest.testmod(teacher_reward)
    assert result.attempted >= 7
    assert result.failed == 0


# --- errors -----------------------------------------------------------------------------------------------------------


class Valueless(ActorCriticTeacher):
    """Has no critic."""

    has_value = False


@pytest.fixture(params=[TeacherReward, VecTeacherReward])
def wrap(request):
    """Both wrappers, around Ending or an environment of one's own."""

    def wrap(teacher, env=Ending, **kwargs):
        return request.param(env() if request.param is TeacherReward else DummyVecEnv([env]), teacher, **kwargs)

    return wrap


def test_unknown_names_are_refused_with_the_known_ones(wrap):
    """Before any step."""
    teacher = actor_critic_teacher(Ending())
    with pytest.raises(ValueError, match=r"^Unknown reward 'n_distill': choose one of 'log_prob', 'teacher_value'\.$"):
        wrap(teacher, reward="n_distill")
    with pytest.raises(ValueError, match=r"^Unknown shift 'entropy': choose one of 'teacher_entropy', None\.$"):
        wrap(teacher, shift="entropy")


@pytest.mark.parametrize("part", ["observation", "action"])
def test_spaces_that_differ_are_both_shown(wrap, part):
    """Which of the two, the teacher's and the environment's."""
    if part == "observation":
        theirs, args = spaces.Box(-1.0, 1.0, (4,), np.float32), lambda space: (space, None)
    else:
        theirs, args = spaces.Discrete(5), lambda space: (None, space)
    mine = getattr(Ending(), f"{part}_space")
    message = f"The teacher random does not fit.*its {part} space is {re.escape(str(mine))}, the environment's is "
    with pytest.raises(ValueError, match=message + re.escape(str(theirs))):
        wrap(actor_critic_teacher(Ending()), lambda: Ending(*args(theirs)))


def test_a_teacher_without_values_can_pay_log_prob_only(wrap):
    """The error names the reward and the teacher."""
    teacher = Valueless(actor_critic_teacher(Ending()).policy, name="mute")
    wrap(teacher, reward="log_prob")
    with pytest.raises(
        ValueError, match="reward='teacher_value' needs the teacher's value function, and mute has none"
    ):
        wrap(teacher, reward="teacher_value")


def test_vec_normalize_inside_is_refused():
    """The teacher could not read its observations; also beneath another wrapper."""
    env = VecMonitor(VecNormalize(DummyVecEnv([Ending])))
    with pytest.raises(ValueError, match=re.escape("VecNormalize(VecTeacherReward(env, teacher))")):
        VecTeacherReward(env, actor_critic_teacher(Ending()))


# --- SB3 learns from it -----------------------------------------------------------------------------------------------


def falling(learning_rate):
    """A learning rate that falls to 0: the last policy is then no accident of the last update."""
    return LinearSchedule(learning_rate, 0.0, 1.0)


# Teacher V rewards sum to the return minus V_π(s_1). The agent's own γ and λ decide over how many steps it believes V_π
# instead of the return, and this teacher's is too poor a critic: whoever believes it for a step or two ends at 130.
LEARNERS = {
    "log_prob": [
        (PPO, 24_576, dict(n_steps=128, batch_size=64, gamma=0.5)),
        (A2C, 24_576, dict(gamma=0.5, learning_rate=falling(1e-3))),
        (TRPO, 16_384, dict(n_steps=128, gamma=0.5)),
    ],
    "teacher_value": [
        (PPO, 49_152, dict(n_steps=128, batch_size=256, gae_lambda=1.0, learning_rate=falling(1e-3))),
        (A2C, 98_304, dict(n_steps=128, use_rms_prop=False, normalize_advantage=True, learning_rate=falling(1e-2))),
        (TRPO, 24_576, dict(n_steps=128, gae_lambda=0.98, n_critic_updates=20)),
    ],
}


#: one learner of each reward, so that the suite stays short; the others are the same experiment, at length
ALWAYS = {"log_prob": A2C, "teacher_value": TRPO}


@pytest.mark.parametrize(
    "reward, algorithm, n_steps, settings",
    [
        pytest.param(
            reward,
            *learner,
            id=f"{reward}-{learner[0].__name__}",
            marks=[] if learner[0] is ALWAYS[reward] else pytest.mark.slow,
        )
        for reward, learners in LEARNERS.items()
        for learner in learners
    ],
)
def test_an_unmodified_algorithm_reaches_the_teacher(reward, algorithm, n_steps, settings):
    """SB3's own classes, which know nothing of distillation, from r̂ alone: 97% of the teacher's 500 on CartPole."""
    teacher = cartpole_teacher(temperature=0.01)
    env = VecTeacherReward(make_vec_env("CartPole-v1", 8, seed=0), teacher, reward, gamma=0.99)
    model = algorithm("MlpPolicy", env, seed=0, device="cpu", **settings)
    model.learn(n_steps)
    returns = episode_returns(
        lambda obs: model.predict(obs, deterministic=True)[0], "CartPole-v1", n_episodes=20, seed=EVALUATION_SEED
    )
    assert returns.mean() >= 0.97 * 500


@pytest.mark.parametrize("shift", ["teacher_entropy", None])
@pytest.mark.parametrize("bound", [None, 2.0, math.inf])
def test_rewards_of_continuous_actions_are_bounded(shift, bound):
    """By 5 nats for each dimension, or what is given, in both wrappers; the formula within, after the shift."""
    space = spaces.Box(-1, 1, (2,))
    teacher = actor_critic_teacher(CountdownEnv(None, space))
    with th.no_grad():
        teacher.policy.log_std.fill_(-4.0)
    given = dict(shift=shift, reward_bound=bound)
    one = TeacherReward(CountdownEnv(None, space), teacher, **given)
    many = VecTeacherReward(DummyVecEnv([lambda: CountdownEnv(None, space)]), teacher, **given)
    obs = one.reset(seed=0)[0][None], many.reset()
    for action in ([1.0, -1.0], [0.0, 0.0]):
        distributions = [teacher.distribution(o) for o in obs]
        expected = [float(d.log_prob(th.tensor([action])) + (d.entropy() if shift else 0.0)) for d in distributions]
        limit = 10.0 if bound is None else bound
        following, paid, *_ = one.step(np.array(action, dtype=np.float32))
        rest = many.step(np.array([action], dtype=np.float32))
        assert abs(expected[0]) > 10 or bound is math.inf or action == [0.0, 0.0]
        assert paid == pytest.approx(np.clip(expected[0], -limit, limit), rel=1e-4)
        assert rest[1][0] == pytest.approx(np.clip(expected[1], -limit, limit), rel=1e-4)
        obs = following[None], rest[0]


@pytest.mark.parametrize("reward", teacher_reward.REWARDS)
@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_an_unmodified_algorithm_learns_from_what_is_paid(algorithm, reward):
    """The start of the slow ones: what its buffer holds is r̂, but where a time limit cut an episode, and its policy moves."""
    settings = dict(n_steps=16) | (dict(batch_size=16, n_epochs=1) if algorithm is PPO else {})
    env = VecTeacherReward(vec_env("discrete"), actor_critic_teacher(Ending()), reward)
    paid, cut = [], []

    class Keep(BaseCallback):
        def _on_step(self):
            paid.append([info["teacher_reward"] for info in self.locals["infos"]])
            cut.append([info["TimeLimit.truncated"] for info in self.locals["infos"]])
            return True

    model = algorithm("MlpPolicy", env, seed=0, device="cpu", **settings)
    before = model.policy.action_net.weight.clone()
    model.learn(2 * 16 * N_ENVS, callback=Keep())
    assert not before.equal(model.policy.action_net.weight)
    kept = ~np.array(cut[16:])
    assert 0 < (~kept).sum() < kept.sum()
    np.testing.assert_allclose(model.rollout_buffer.rewards[kept], np.array(paid[16:])[kept], rtol=1e-5)
