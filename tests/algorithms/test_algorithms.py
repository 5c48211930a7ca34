"""The algorithms as SB3 algorithms: what every user of SB3 relies on, for every row and both engines."""

import gc

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import sb3_distill
from envs_for_tests import ACTION_SPACES, DICT_SPACE, IMAGE_SPACE, CountdownEnv, CountingTeacher, actor_critic_teacher
from sb3_distill import DistillA2C, DistillPPO, NDistill, OnPolicyDistill, load_teacher
from sb3_distill.rules.methods import METHODS

ROWS = list(METHODS["unbiased"])
SMALL = {DistillPPO: dict(n_steps=32, batch_size=32, n_epochs=2), DistillA2C: dict(n_steps=8)}
PLAIN = {DistillPPO: PPO, DistillA2C: A2C}


@pytest.fixture(scope="module")
def teacher():
    return load_teacher("zoo:dqn/CartPole-v1", temperature=0.1)


def make(engine, teacher, n_envs=4, seed=0, env=None, **kwargs):
    env = env or make_vec_env("CartPole-v1", n_envs, seed=seed)
    policy = "MultiInputPolicy" if isinstance(env.observation_space, spaces.Dict) else "MlpPolicy"
    return engine(policy, env, teacher=teacher, seed=seed, device="cpu", **(SMALL[engine] | kwargs))


def same_parameters(a, b):
    states = a.policy.state_dict(), b.policy.state_dict()
    assert states[0].keys() == states[1].keys()
    return all(th.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("form", list(METHODS))
@pytest.mark.parametrize("method", ROWS)
@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
def test_every_row_learns_on_both_engines(engine, method, form, teacher):
    """A row runs, changes the student, logs finite numbers, and reports the environment's own return."""
    model = make(engine, teacher, method=method, form=form)
    before = model.policy.state_dict()["action_net.weight"].clone()
    logged = {}

    class Keep(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            logged.update(self.logger.name_to_value)

    model.learn(256, callback=Keep())
    logged |= model.logger.name_to_value
    assert not th.equal(before, model.policy.state_dict()["action_net.weight"])
    row = METHODS[form][method]
    expected = {"distill/kl", "distill/agreement", "distill/teacher_entropy"}
    expected |= {"distill/loss"} if row.loss else set()
    expected |= {"distill/reward"} if row.reward else set()
    assert expected <= set(logged)
    assert all(np.isfinite(logged[key]) for key in expected)
    # CartPole pays 1 a step, so whatever was injected, returns are lengths.
    assert all(info["r"] == info["l"] for info in model.ep_info_buffer)


def test_the_named_classes_are_the_rows(teacher):
    """Each class fixes its row; naming another one is an error."""
    names = [
        "TeacherDistill",
        "OnPolicyDistill",
        "EntropyRegularised",
        "NDistill",
        "ExpectedEntropyDistill",
        "TeacherVReward",
    ]
    for suffix, engine in (("", DistillPPO), ("A2C", DistillA2C)):
        found = {getattr(sb3_distill, name + suffix).fixed_method for name in names}
        assert found == set(ROWS)
        assert all(issubclass(getattr(sb3_distill, name + suffix), engine) for name in names)
    with pytest.raises(ValueError, match="leave method='on_policy_distill' out"):
        NDistill("MlpPolicy", "CartPole-v1", teacher=teacher, method="on_policy_distill")


@pytest.mark.parametrize(("n_envs", "n_steps"), [(1, 64), (2, 32), (8, 32)])
def test_the_default_rollout_fills_a_minibatch(n_envs, n_steps, teacher, recwarn):
    """With one environment, too: SB3 warns of minibatches that are cut."""
    model = NDistill("MlpPolicy", make_vec_env("CartPole-v1", n_envs), teacher=teacher)
    assert (model.n_steps, model.batch_size) == (n_steps, 64)
    assert not [warning for warning in recwarn if "mini-batch" in str(warning.message)]
    assert NDistill("MlpPolicy", "CartPole-v1", teacher=teacher, batch_size=100).n_steps == 100
    assert NDistill("MlpPolicy", "CartPole-v1", teacher=teacher, n_steps=128).n_steps == 128


class DictCartPole(gym.ObservationWrapper):
    """CartPole whose observation is a dictionary."""

    def __init__(self, env):
        super().__init__(env)
        low, high = env.observation_space.low, env.observation_space.high
        self.observation_space = spaces.Dict(
            {"cart": spaces.Box(low[:2], high[:2]), "pole": spaces.Box(low[2:], high[2:])}
        )

    def observation(self, obs):
        return {"cart": obs[:2], "pole": obs[2:]}


@pytest.mark.parametrize("kind", ["CartPole", "Dict", "VecNormalize"])
@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
@pytest.mark.parametrize("method", ["n_distill", "teacher_v_reward"])
def test_with_the_environments_reward_alone_it_is_sb3_to_the_bit(engine, kind, method, teacher):
    """loss_coef=0, reward_coef=0, env_reward_coef=1 after many rollouts: SB3's parameters, on distillation's code path.

    Episodes end both ways: about one in two is cut at 20 steps.
    """
    steps = 768 if engine is DistillPPO else 256  # 3 rollouts, and 8

    def env():
        wrapper = DictCartPole if kind == "Dict" else None
        venv = make_vec_env("CartPole-v1", 4, seed=3, wrapper_class=wrapper, env_kwargs=dict(max_episode_steps=20))
        return VecNormalize(venv) if kind == "VecNormalize" else venv

    who = actor_critic_teacher(env()) if kind == "Dict" else teacher
    settings = dict(gamma=0.98, learning_rate=7e-4, vf_coef=0.5, gae_lambda=0.9, normalize_advantage=True)
    settings |= dict(max_grad_norm=0.5)
    settings |= (
        dict(n_steps=64, n_epochs=3, batch_size=64) if engine is DistillPPO else dict(n_steps=8, use_rms_prop=True)
    )
    policy = "MultiInputPolicy" if kind == "Dict" else "MlpPolicy"
    common = dict(seed=3, device="cpu", **settings)
    plain = PLAIN[engine](policy, env(), **common).learn(steps)
    ours = engine(
        policy, env(), teacher=who, method=method, loss_coef=0.0, reward_coef=0.0, env_reward_coef=1.0, **common
    )
    passes = []
    attach = type(ours).train

    def counted(self):
        passes.append(self.rollout_buffer.teacher_parameters.any())
        attach(self)

    ours.train = counted.__get__(ours)
    ours.learn(steps)
    assert same_parameters(plain, ours)
    assert all(passes) and len(passes) > 1  # the teacher was asked all along: no early exit


@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
@pytest.mark.parametrize("method", ROWS)
def test_two_runs_with_one_seed_are_equal_to_the_bit(engine, method, teacher):
    """And a third with another seed is not."""
    runs = [make(engine, teacher, method=method, seed=s).learn(256) for s in (5, 5, 6)]
    assert same_parameters(runs[0], runs[1])
    assert not same_parameters(runs[0], runs[2])


@pytest.mark.parametrize("action", list(ACTION_SPACES))
@pytest.mark.parametrize("obs", ["box", "dict", "image"])
@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
def test_all_spaces(engine, obs, action):
    """Discrete, MultiDiscrete, MultiBinary and Box students of an actor-critic teacher, on arrays, dicts and images."""
    space = {"box": None, "dict": DICT_SPACE, "image": IMAGE_SPACE}[obs]
    env = make_vec_env(lambda: CountdownEnv(space, ACTION_SPACES[action]), 2, seed=0)
    policy = {"box": "MlpPolicy", "dict": "MultiInputPolicy", "image": "CnnPolicy"}[obs]
    donor = PPO(policy, env, seed=1, device="cpu", n_steps=8, batch_size=8)
    settings = SMALL[engine] | dict(n_steps=8, seed=0, device="cpu")
    for method in ("n_distill", "expected_entropy", "entropy_regularised", "teacher_distill", "teacher_v_reward"):
        model = engine(policy, env, teacher=donor, method=method, **settings).learn(32)
        assert all(th.isfinite(p).all() for p in model.policy.parameters())


def test_generalised_state_dependent_exploration(teacher):
    """gSDE on both sides: its distribution in a state is a diagonal Gaussian."""
    env = make_vec_env("Pendulum-v1", 2, seed=0)
    donor = PPO("MlpPolicy", env, use_sde=True, seed=0, device="cpu")
    for use_sde in (False, True):
        NDistill("MlpPolicy", env, teacher=donor, use_sde=use_sde, n_steps=16, batch_size=16, seed=0).learn(64)


class Counter:
    """Counts the batches that go through a function, and their rows."""

    def __init__(self, function):
        self.function, self.rows = function, []

    def __call__(self, obs, *args, **kwargs):
        self.rows.append(len(obs))
        return self.function(obs, *args, **kwargs)


@pytest.mark.parametrize("method", ROWS)
def test_the_teacher_sees_each_state_once_and_the_student_passes_are_few(method, teacher):
    """n rollouts of T steps: T·n_envs states each, the last, and those that time limits cut; nothing twice."""
    counting = CountingTeacher(teacher)
    env = DummyVecEnv([lambda: gym.make("CartPole-v1", max_episode_steps=17)] * 4)
    env.seed(0)
    model = make(DistillPPO, counting, env=env, method=method)
    policy = model.policy
    forward, evaluate, get = (Counter(f) for f in (policy.forward, policy.evaluate_actions, policy.get_distribution))
    policy.forward, policy.evaluate_actions, policy.get_distribution = forward, evaluate, get
    model.learn(3 * 32 * 4)
    seen = np.concatenate(counting.seen)
    assert len(np.unique(seen, axis=0)) == len(seen)
    truncated = len(seen) - (3 * 32 * 4 + 4)
    uses_next = "next_state" in METHODS["unbiased"][method].needs
    assert truncated > 0 if uses_next else truncated == 0
    assert forward.rows == [4] * (3 * 32)  # one pass a step
    assert evaluate.rows == [32] * (3 * 4 * 2)  # one a minibatch: 4 minibatches, 2 epochs
    student_reward = (
        METHODS["unbiased"][method].reward is not None and "student" in METHODS["unbiased"][method].reward.needs
    )
    # At most one more a rollout, and one before the first.
    assert len(get.rows) == 1 + (3 if uses_next and student_reward else 0)
    if METHODS["unbiased"][method].control == "student":
        assert len(counting.seen) == 3  # and one batch a rollout for the teacher


class TestSavingAndLoading:
    """A student outlives its teacher."""

    def test_without_a_teacher_it_acts_and_says_how_to_learn(self, teacher, tmp_path):
        model = make(DistillPPO, teacher, method="n_distill").learn(128)
        model.save(tmp_path / "student")
        loaded = DistillPPO.load(tmp_path / "student", env=make_vec_env("CartPole-v1", 4, seed=0))
        assert same_parameters(model, loaded)
        assert loaded.teacher is None
        assert loaded.method == "n_distill"
        obs = np.zeros((1, 4), dtype=np.float32)
        assert loaded.predict(obs, deterministic=True)[0] == model.predict(obs, deterministic=True)[0]
        with pytest.raises(ValueError, match=r"^DistillPPO has no teacher to learn from: set model\.teacher"):
            loaded.learn(128)
        loaded.teacher = teacher
        loaded.learn(128)

    def test_a_loaded_run_goes_on_as_the_saved_one(self, teacher, tmp_path):
        runs = []
        for _ in range(2):
            model = make(DistillPPO, teacher, method="n_distill").learn(128)
            model.save(tmp_path / "student")
            runs.append(model)
        restored = DistillPPO.load(tmp_path / "student", env=make_vec_env("CartPole-v1", 4, seed=9), teacher=teacher)
        runs[0].set_env(make_vec_env("CartPole-v1", 4, seed=9))
        for model in (runs[0], restored):
            model.set_random_seed(11)
            model.learn(256, reset_num_timesteps=False)
        assert same_parameters(runs[0], restored)
        assert restored.num_timesteps == runs[0].num_timesteps == 128 + 256

    def test_a_teacher_may_be_given_to_load_by_name(self, teacher, tmp_path):
        make(NDistillSmall, teacher).save(tmp_path / "student")
        loaded = NDistillSmall.load(tmp_path / "student", env=make_vec_env("CartPole-v1", 4), teacher=teacher)
        assert loaded.teacher is teacher
        loaded.learn(128)

    def test_it_is_a_plain_ppo(self, teacher, tmp_path):
        """SB3's own class loads it, acts, and goes on with reinforcement learning."""
        model = make(DistillPPO, teacher, method="expected_entropy").learn(128)
        model.save(tmp_path / "student")
        plain = PPO.load(tmp_path / "student", env=make_vec_env("CartPole-v1", 4, seed=0))
        assert same_parameters(model, plain)
        plain.learn(128)

    def test_no_trace_of_the_teacher_or_of_this_package_is_needed(self, teacher, tmp_path):
        model = make(DistillPPO, teacher).learn(128)
        model.save(tmp_path / "student")
        from stable_baselines3.common.save_util import load_from_zip_file

        data, _, _ = load_from_zip_file(tmp_path / "student")
        assert not [key for key, value in data.items() if type(value).__module__.startswith("sb3_distill")]
        assert "teacher" not in data

    def test_set_parameters(self, teacher):
        a, b = make(DistillPPO, teacher, seed=0), make(DistillPPO, teacher, seed=1)
        assert not same_parameters(a, b)
        b.set_parameters(a.get_parameters())
        assert same_parameters(a, b)


class NDistillSmall(NDistill):
    """For load(), which wants a class."""


SMALL[NDistillSmall] = SMALL[DistillPPO]


def test_set_env_and_no_reset_of_time_steps(teacher):
    """A student moves to another environment, and what was carried over from the old one is not used."""
    model = make(DistillPPO, teacher, method="n_distill").learn(128)
    model.set_env(make_vec_env("CartPole-v1", 4, seed=42))
    model.learn(128, reset_num_timesteps=False)
    assert model.num_timesteps == 256


def test_tensorboard_names_the_run_after_the_class(teacher, tmp_path):
    """Not PPO_1."""
    pytest.importorskip("tensorboard")
    OnPolicyDistill(
        "MlpPolicy", "CartPole-v1", teacher=teacher, n_steps=32, batch_size=32, tensorboard_log=str(tmp_path)
    ).learn(64)
    assert [p.name for p in tmp_path.iterdir()] == ["OnPolicyDistill_1"]


def test_vec_normalize_and_eval_callback(teacher, tmp_path):
    """The student sees normalised observations, the teacher raw ones; EvalCallback finds the chain of wrappers intact."""
    counting = CountingTeacher(teacher)
    env = VecNormalize(make_vec_env("CartPole-v1", 4, seed=0, env_kwargs=dict(max_episode_steps=20)))
    model = make(DistillPPO, counting, env=env, method="n_distill")
    eval_env = VecNormalize(make_vec_env("CartPole-v1", 1, seed=1), training=False)
    callback = EvalCallback(eval_env, eval_freq=8, n_eval_episodes=1, verbose=0, log_path=str(tmp_path))
    model.learn(256, callback=callback)
    assert len(callback.evaluations_results) == 8
    assert model.env is env and "step_async" not in vars(env.venv) and "step_wait" not in vars(env.venv)
    # CartPole's raw angles stay within 0.25 rad; normalised ones reach several units.
    seen = np.concatenate(counting.seen)
    assert np.abs(seen[:, 2]).max() < 0.35 and np.abs(model.rollout_buffer.observations[..., 2]).max() > 1.0
    # Terminal observations at the time limit came raw too, though VecNormalize overwrites them.
    assert len(seen) > 256 + 4


def test_callbacks_that_predict_do_not_disturb_the_student(teacher):
    """predict() overwrites the policy's one distribution object between two steps of a rollout."""

    class Predict(BaseCallback):
        def _on_step(self):
            self.model.predict(np.ones((7, 4), dtype=np.float32), deterministic=True)
            return True

    runs = [make(DistillPPO, teacher, method="n_distill").learn(256, callback=c) for c in (None, Predict())]
    assert same_parameters(*runs)


def test_a_callback_can_stop_training(teacher):
    """And leaves the environment as it was."""

    class Stop(BaseCallback):
        def _on_step(self):
            return self.n_calls < 10

    model = make(DistillPPO, teacher).learn(512, callback=Stop())
    assert model.num_timesteps == 40
    assert "step_wait" not in vars(model.env)
    assert model.rollout_buffer.finish_rollout is None


def test_schedules_are_those_of_sb3(teacher):
    """A weight on ℓ that decays (kickstarting) is a schedule of progress_remaining."""
    model = make(
        DistillPPO, teacher, method="on_policy_distill", env_reward_coef=1.0, loss_coef=LinearSchedule(2.0, 0.5, 1.0)
    )
    model._current_progress_remaining = 0.5
    assert model._weights() == (1.25, 0.0, 1.0)
    model.learn(256)


def test_progress_bar(teacher, capsys):
    """progress_bar=True works as in SB3."""
    make(DistillPPO, teacher).learn(128, progress_bar=True)


def test_greedy_evaluation_by_sb3(teacher):
    """evaluate_policy takes a student."""
    model = make(DistillPPO, teacher)
    assert evaluate_policy(model, model.env, n_eval_episodes=4)[0] > 0


@pytest.mark.parametrize("control", ["teacher", "uniform"])
def test_control_policies(control, teacher):
    """The environment executes the control policy's actions, not the student's."""
    executed = []

    class Spy(gym.ActionWrapper):
        def action(self, action):
            executed.append(int(action))
            return action

    env = make_vec_env("CartPole-v1", 4, seed=0, wrapper_class=Spy)
    model = make(DistillPPO, teacher, env=env, method="on_policy_distill", control=control, n_steps=128, batch_size=512)
    with th.no_grad():
        # A student that would only ever push right.
        model.policy.action_net.weight.zero_()
        model.policy.action_net.bias.copy_(th.tensor([-50.0, 50.0]))
    model.learn(512)
    assert 0.4 < np.mean(executed) < 0.6
    # Those that the teacher plays are still running, or long.
    lengths = np.mean([info["l"] for info in model.ep_info_buffer] or [500])
    assert lengths > 40 if control == "teacher" else lengths < 40


def episode_env(n_envs=3):
    """Episodes of five steps that end by termination, with one reward a step."""

    class Five(CountdownEnv):
        def reset(self, **kwargs):
            self.episode = 0  # never the third: no time limits
            return super().reset(**kwargs)

    return DummyVecEnv([Five] * n_envs)


def rollout_of(model):
    """One rollout and no update; the buffer in the shape (n_steps, n_envs)."""
    model.train = lambda: None
    model.learn(model.n_steps * model.n_envs)
    return model.rollout_buffer


def test_the_students_baseline_is_a_critic_of_the_environments_return():
    """With baseline="student": returns are SB3's of the environment's reward, advantages the λ-sums of r̂, by slow loops."""
    gamma, lam = 0.9, 0.8
    who = actor_critic_teacher(CountdownEnv())
    settings = dict(n_steps=12, batch_size=12, gamma=gamma, gae_lambda=lam, seed=0, device="cpu")
    model = DistillPPO(
        "MlpPolicy", episode_env(), teacher=who, method="teacher_v_reward", baseline="student", **settings
    )
    buffer = rollout_of(model)
    plain = rollout_of(PPO("MlpPolicy", episode_env(), **settings))
    assert np.array_equal(buffer.rewards, np.ones_like(buffer.rewards))
    assert np.array_equal(buffer.returns, plain.returns)
    v_teacher = np.stack([who.value(obs).numpy() for obs in [*buffer.observations, model._last_obs]])
    ends = np.concatenate([buffer.episode_starts[1:], model._last_episode_starts[None]])
    injected = 1.0 + gamma * (1 - ends) * v_teacher[1:] - buffer.values
    expected, running = np.zeros_like(injected), 0.0
    for t in reversed(range(12)):
        running = injected[t] + gamma * lam * (1 - ends[t]) * running
        expected[t] = running
    assert np.allclose(buffer.advantages, expected, atol=1e-5)


@pytest.mark.parametrize("theirs", [0.9, None])
def test_the_teachers_value_is_discounted_as_the_teacher_does(theirs):
    """r̂ = r + γ_π V_π(s') − V_π(s), whatever the student's horizon; 0.99 where the teacher's discount is not known."""
    who = actor_critic_teacher(CountdownEnv())
    who.gamma = theirs
    settings = dict(n_steps=12, batch_size=12, gamma=0.5, seed=0, device="cpu")
    model = DistillPPO("MlpPolicy", episode_env(), teacher=who, method="teacher_v_reward", **settings)
    buffer = rollout_of(model)
    value = np.stack([who.value(obs).numpy() for obs in [*buffer.observations, model._last_obs]])
    ends = np.concatenate([buffer.episode_starts[1:], model._last_episode_starts[None]])
    assert 0 < ends.sum() < ends.size
    assert np.allclose(buffer.rewards, 1.0 + (theirs or 0.99) * (1 - ends) * value[1:] - value[:-1], atol=1e-5)


def test_a_baseline_of_another_discount_than_the_teachers_is_said():
    who = actor_critic_teacher(CountdownEnv())
    who.gamma = 0.9
    with pytest.warns(
        UserWarning, match=r"values that are not of one discount: .* gamma=0\.9, .* gamma=0\.99\. Give gamma=0\.9\."
    ):
        DistillPPO("MlpPolicy", episode_env(), teacher=who, method="teacher_v_reward", baseline="student")


def test_what_the_buffer_holds_is_the_mix_over_its_weights():
    """(reward_coef · r̂ + env_reward_coef · r) / (reward_coef + env_reward_coef), step by step."""
    who = actor_critic_teacher(CountdownEnv())
    settings = dict(n_steps=12, batch_size=12, seed=0, device="cpu", method="entropy_regularised", teacher=who)
    only_r_hat = rollout_of(DistillPPO("MlpPolicy", episode_env(), **settings)).rewards
    mixed = rollout_of(DistillPPO("MlpPolicy", episode_env(), reward_coef=1.0, env_reward_coef=3.0, **settings)).rewards
    assert np.allclose(mixed, (only_r_hat + 3.0 * 1.0) / 4.0, atol=1e-6)
    assert only_r_hat.std() > 0.01


def test_without_a_policy_gradient_the_critic_learns_the_environments_return():
    """So that reinforcement learning may follow distillation."""
    who = actor_critic_teacher(CountdownEnv())
    settings = dict(n_steps=12, batch_size=12, gamma=0.9, gae_lambda=0.8, seed=0, device="cpu")
    ours = rollout_of(DistillPPO("MlpPolicy", episode_env(), teacher=who, method="on_policy_distill", **settings))
    plain = rollout_of(PPO("MlpPolicy", episode_env(), **settings))
    assert np.array_equal(ours.returns, plain.returns)
    model = DistillPPO("MlpPolicy", episode_env(), teacher=who, method="on_policy_distill", vf_coef=0.5, **settings)
    before = model.policy.value_net.weight.clone()
    model.learn(36)
    assert not th.equal(before, model.policy.value_net.weight)


@pytest.mark.parametrize(
    ("method", "vec_normalize"),
    [("n_distill", False), ("n_distill", True), ("teacher_distill", False), ("teacher_v_reward", True)],
)
@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
def test_a_rollout_is_forgotten_as_soon_as_it_is_learnt_from(engine, method, vec_normalize, teacher):
    """No circle of references keeps it until Python's garbage collector comes, which takes long: memory would grow meanwhile."""
    env = make_vec_env("CartPole-v1", 4, seed=0)
    model = make(engine, teacher, env=VecNormalize(env) if vec_normalize else env, method=method)
    found = []

    class Collect(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_start(self):
            if self.num_timesteps == 0:
                gc.collect()
                gc.freeze()  # what is there now is no rollout: looking through all of it each time would take long
            found.append(gc.collect())

    gc.disable()
    try:
        model.learn(4 * model.n_steps * 4, callback=Collect())
    finally:
        gc.unfreeze()
        gc.enable()
    assert found == [0] * 4
