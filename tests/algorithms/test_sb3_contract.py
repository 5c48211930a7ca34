"""What SB3 asks of PPO and A2C holds for every class: run, save and load, determinism, callbacks, loggers, environments."""

import csv
import io
import json

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common import callbacks
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from envs_for_tests import ACTION_SPACES, DICT_SPACE, IMAGE_SPACE, CountdownEnv, actor_critic_teacher
from sb3_classes import (
    CLASSES,
    CONTRIB,
    ENGINES,
    N_ENVS,
    ROLLOUT,
    check_parameters,
    countdown_envs,
    policy_of,
    student,
    teacher_for,
)
from sb3_distill import DistillRecurrentPPO, load_teacher
from sb3_distill.algorithms.settings import sb3_class

every_class = pytest.mark.parametrize("cls", CLASSES + CONTRIB)
each_engine = pytest.mark.parametrize("cls", ENGINES + CONTRIB)


def weights(model):
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(th.equal(a[name], b[name]) for name in a)


def some_obs(model, n=5):
    return np.random.default_rng(0).uniform(-1, 1, (n, *model.observation_space.shape)).astype(np.float32)


class TestRun:
    @every_class
    def test_as_long_as_it_is_told(self, cls):
        """Whole rollouts, at least as many steps as asked for; again from 0, or on from there; seeds make runs equal."""
        runs = [student(cls).learn(2 * ROLLOUT + 1) for _ in range(2)]
        assert runs[0].num_timesteps == 3 * ROLLOUT
        assert same(weights(runs[0]), weights(runs[1]))
        for model in runs:
            model.set_random_seed(3)
            model.learn(ROLLOUT, reset_num_timesteps=False)
            assert model.num_timesteps == 4 * ROLLOUT
            model.learn(ROLLOUT)
            assert model.num_timesteps == ROLLOUT
        assert same(weights(runs[0]), weights(runs[1]))
        runs[0].learn(0)
        assert not same(weights(runs[0]), weights(student(cls).learn(ROLLOUT)))
        assert not same(weights(student(cls, seed=1).learn(ROLLOUT)), weights(student(cls).learn(ROLLOUT)))

    @every_class
    @pytest.mark.parametrize("space", list(ACTION_SPACES))
    def test_action_spaces(self, cls, space):
        """Learning, actions of one state and of several, greedy and not; SB3's evaluation."""
        env = countdown_envs(action_space=ACTION_SPACES[space])
        model = student(cls, env).learn(ROLLOUT)
        obs = some_obs(model)
        for deterministic in (True, False):
            actions, state = model.predict(obs, deterministic=deterministic)
            assert (state is None) == (cls is not DistillRecurrentPPO) and actions.shape == (5, *env.action_space.shape)
            one, _ = model.predict(obs[0], deterministic=deterministic)
            assert env.action_space.contains(np.asarray(one, env.action_space.dtype).reshape(env.action_space.shape))
        started = model.predict(obs, state=None, episode_start=np.ones(5, dtype=bool), deterministic=True)[0]
        assert np.array_equal(started, model.predict(obs, deterministic=True)[0])
        assert np.isfinite(evaluate_policy(model, countdown_envs(action_space=env.action_space), 2)[0])

    @each_engine
    @pytest.mark.parametrize("shape", [(2,), (1, 3), (0,)])
    def test_observations_of_other_shapes_than_the_models_are_refused(self, cls, shape):
        with pytest.raises(ValueError, match="Unexpected observation shape"):
            student(cls).predict(
                np.zeros((2, *shape), np.float32) if shape != (1, 3) else np.zeros((1, 1, 3), np.float32)
            )

    @each_engine
    @pytest.mark.parametrize(
        "space",
        [spaces.Discrete(4), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3), spaces.Box(-1.0, 1.0, (2, 3))],
        ids=str,
    )
    def test_observation_spaces(self, cls, space):
        if cls is DistillRecurrentPPO and isinstance(space, spaces.MultiDiscrete):
            pytest.skip("sb3-contrib's RecurrentPPO gives PyTorch's LSTM a size that is no int")
        student(cls, countdown_envs(space)).learn(ROLLOUT)

    @each_engine
    def test_what_sb3_refuses(self, cls):
        """Before any work, as SB3 does."""
        nested, mlp = spaces.Dict({"a": DICT_SPACE}), policy_of(cls, "Mlp")
        teacher = teacher_for(countdown_envs())
        with pytest.raises(NotImplementedError, match="Nested"):
            student(cls, countdown_envs(nested), teacher=teacher)
        with pytest.raises(ValueError, match=policy_of(cls, "MultiInput")):
            student(cls, countdown_envs(DICT_SPACE), mlp)
        with pytest.raises(ValueError, match="State-Dependent Exploration"):
            student(cls, use_sde=True)
        with pytest.raises(ValueError, match="Policy Mlp unknown"):
            student(cls, policy="Mlp")
        with pytest.raises(AssertionError, match="only supports"):
            cls(mlp, countdown_envs(action_space=DICT_SPACE), teacher=teacher)

    @every_class
    def test_dicts_of_arrays(self, cls):
        model = student(cls, countdown_envs(DICT_SPACE)).learn(ROLLOUT)
        obs = {key: np.stack([space.sample()] * 3) for key, space in DICT_SPACE.items()}
        assert model.predict(obs)[0].shape == (3,)

    @every_class
    @pytest.mark.parametrize("normalize_images", [True, False])
    def test_images(self, cls, normalize_images, tmp_path):
        """They arrive channels last, and both kinds are predicted."""
        env = countdown_envs(IMAGE_SPACE)
        arch = dict(features_extractor_kwargs=dict(features_dim=8), net_arch=[], normalize_images=normalize_images)
        shared = dict(features_extractor_kwargs=dict(features_dim=8))
        from stable_baselines3.common.policies import ActorCriticCnnPolicy

        from sb3_distill.teachers.actor_critic import ActorCriticTeacher

        channels_first = spaces.Box(0, 255, (1, 36, 36), np.uint8)
        who = ActorCriticTeacher(ActorCriticCnnPolicy(channels_first, env.action_space, lambda _: 0.0, **shared))
        model = student(cls, env, policy_of(cls, "Cnn"), teacher=who, policy_kwargs=arch).learn(ROLLOUT)
        obs = np.zeros((2, 36, 36, 1), np.uint8)
        assert np.array_equal(
            model.predict(obs, deterministic=True)[0],
            model.predict(obs.transpose(0, 3, 1, 2), deterministic=True)[0],
        )


class TestSavingAndLoading:
    @every_class
    def test_what_is_loaded_is_what_was_saved(self, cls, tmp_path):
        """Weights, predictions, settings, optimiser; from a path, a name and an open file; and it goes on as the saved one."""
        model = student(cls, averaging=0.25).learn(2 * ROLLOUT)
        file = io.BytesIO()
        model.save(file)
        model.save(tmp_path / "by_path.zip")
        model.save(str(tmp_path / "by_name"))
        obs = some_obs(model)
        loaded = []
        for path in (file, tmp_path / "by_path.zip", str(tmp_path / "by_name")):
            if path is file:
                file.seek(0)
            loaded.append(cls.load(path, env=countdown_envs(seed=5), teacher=model.teacher, device="cpu"))
        model.set_env(countdown_envs(seed=5))
        for other in (model, *loaded):
            assert same(weights(other), weights(model))
            assert np.array_equal(other.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0])
            assert (other.gamma, other.n_steps, other.averaging) == (model.gamma, model.n_steps, 0.25)
            assert other.reward_coef(1.0) == model.reward_coef(1.0)
        for other in (model, *loaded):
            other.set_random_seed(3)
            other.learn(2 * ROLLOUT, reset_num_timesteps=False)
            assert other.num_timesteps == 4 * ROLLOUT
        assert all(same(weights(other), weights(model)) for other in loaded)

    @every_class
    def test_without_a_teacher_and_with_other_environments(self, cls, tmp_path):
        model = student(cls)
        model.save(tmp_path / "student")
        plain = sb3_class(cls).load(tmp_path / "student", device="cpu")
        assert same(weights(plain), weights(model))
        alone = cls.load(tmp_path / "student", device="cpu", custom_objects={"learning_rate": 1e-3})
        assert (alone.env, alone.teacher, alone.learning_rate) == (None, None, 1e-3)
        alone.predict(some_obs(model))
        more = cls.load(
            tmp_path / "student", env=countdown_envs(n_envs=4), teacher=model.teacher, device="cpu", gamma=0.5
        )
        assert (more.n_envs, more.gamma) == (4, 0.5)
        more.learn(4 * ROLLOUT)
        with pytest.raises(ValueError, match="Observation spaces do not match"):
            cls.load(tmp_path / "student", env=countdown_envs(IMAGE_SPACE))
        with pytest.raises(ValueError, match="policy kwargs do not equal"):
            cls.load(tmp_path / "student", policy_kwargs=dict(net_arch=[3]))

    @each_engine
    def test_what_is_left_out_and_what_is_put_in(self, cls, tmp_path):
        model = student(cls)
        model.extra = "mine"
        model.save(tmp_path / "student", exclude=["gamma", "extra"])
        assert not hasattr(cls.load(tmp_path / "student"), "extra")
        model.save(tmp_path / "student", include=["extra"])
        assert cls.load(tmp_path / "student").extra == "mine"

    @each_engine
    def test_parameters(self, cls):
        """All of them, or only the policy's with exact_match=False; a name too many or too few is SB3's error."""
        a, b = student(cls, seed=0).learn(ROLLOUT), student(cls, seed=1)
        check_parameters(a, b, lambda a, b: same(weights(a), weights(b)))
        assert not a.get_parameters()["policy"]["action_net.weight"].equal(
            student(cls).get_parameters()["policy"]["action_net.weight"]
        )

    @each_engine
    def test_the_policy_alone(self, cls, tmp_path):
        if cls is DistillRecurrentPPO:
            pytest.skip("sb3-contrib's policies that remember do not save the size of their memory")
        model = student(cls)
        model.policy.save(tmp_path / "policy.pkl")
        policy = type(model.policy).load(tmp_path / "policy.pkl", device="cpu")
        obs = some_obs(model)
        assert np.array_equal(policy.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0])

    @each_engine
    def test_environments(self, cls):
        model = student(cls)
        first = model.get_env()
        model.learn(ROLLOUT)
        other = countdown_envs(seed=7)
        model.set_env(other)
        assert model.get_env() is other is not first
        model.learn(ROLLOUT, reset_num_timesteps=False)
        with pytest.raises(AssertionError, match="number of environments"):
            model.set_env(countdown_envs(n_envs=3))
        with pytest.raises(ValueError, match="Action spaces do not match"):
            model.set_env(countdown_envs(action_space=spaces.Discrete(5)))
        assert student(cls, CountdownEnv()).learn(ROLLOUT).get_env().num_envs == 1


class TestCallbacks:
    @every_class
    def test_all_of_sb3s(self, cls, tmp_path):
        """Each does what it does with SB3's own, all in one run."""
        seen = []
        best = callbacks.StopTrainingOnRewardThreshold(1e9, verbose=0)
        no_better = callbacks.StopTrainingOnNoModelImprovement(1000, min_evals=1)
        evaluation = callbacks.EvalCallback(
            DummyVecEnv([lambda: Monitor(CountdownEnv())]),
            callback_on_new_best=best,
            callback_after_eval=no_better,
            n_eval_episodes=1,
            eval_freq=N_ENVS,
            log_path=str(tmp_path),
            best_model_save_path=str(tmp_path),
            verbose=0,
        )
        checkpoint = callbacks.CheckpointCallback(N_ENVS * 2, str(tmp_path / "checkpoints"), save_vecnormalize=True)
        counted = callbacks.EveryNTimesteps(ROLLOUT, callbacks.ConvertCallback(lambda *_: seen.append("n") or True))
        all_of_them = [
            evaluation,
            checkpoint,
            counted,
            callbacks.LogEveryNTimesteps(ROLLOUT),
            callbacks.StopTrainingOnMaxEpisodes(1000),
            callbacks.ConvertCallback(lambda local, _: seen.append(local["self"]) or True),
        ]
        model = student(cls).learn(2 * ROLLOUT, callback=all_of_them, progress_bar=True)
        assert seen.count("n") >= 1 and seen.count(model) == 2 * ROLLOUT / N_ENVS
        assert len(evaluation.evaluations_results) == 2 * ROLLOUT / N_ENVS / N_ENVS
        assert len(list((tmp_path / "checkpoints").iterdir())) == 4
        cls.load(tmp_path / "best_model")
        model.learn(ROLLOUT, callback=lambda *_: None)  # a function, as SB3 allows

    @each_engine
    def test_those_that_stop_a_run(self, cls):
        model = student(cls)
        model.learn(10 * ROLLOUT, callback=callbacks.StopTrainingOnMaxEpisodes(3))
        assert model.num_timesteps < 2 * ROLLOUT
        low = callbacks.StopTrainingOnRewardThreshold(-1e9)
        evaluation = callbacks.EvalCallback(countdown_envs(n_envs=1), callback_on_new_best=low, eval_freq=3, verbose=0)
        model.learn(10 * ROLLOUT, callback=callbacks.CallbackList([evaluation]))
        assert model.num_timesteps == 3 * N_ENVS
        model.learn(ROLLOUT)

    @each_engine
    def test_rl_zoos(self, cls, tmp_path):
        pytest.importorskip("rl_zoo3")
        import optuna
        from rl_zoo3 import callbacks as zoo

        env = VecNormalize(countdown_envs())
        trial = optuna.create_study().ask()
        evaluation = zoo.TrialEvalCallback(
            VecNormalize(countdown_envs(), training=False), trial, 1, eval_freq=4, verbose=0
        )
        saving = zoo.SaveVecNormalizeCallback(save_freq=4, save_path=str(tmp_path))
        model = student(cls, env, tensorboard_log=str(tmp_path / "tb"))
        model.learn(2 * ROLLOUT, callback=[evaluation, saving, zoo.RawStatisticsCallback()])
        assert (tmp_path / "vecnormalize.pkl").is_file()


class TestLogging:
    @every_class
    def test_what_is_logged(self, cls, tmp_path):
        """CSV, JSON and a table, by a logger of the user's: finite numbers under SB3's names and the library's."""
        model = student(cls, make_vec_env(CountdownEnv, N_ENVS, seed=0))
        model.set_logger(configure(str(tmp_path), ["csv", "json", "log"]))
        model.learn(4 * ROLLOUT, log_interval=1)
        lines = [json.loads(line) for line in (tmp_path / "progress.json").read_text().splitlines()]
        last = lines[-1]
        wanted = ["rollout/ep_rew_mean", "time/total_timesteps", "train/learning_rate", "train/n_updates", "distill/kl"]
        assert all(np.isfinite(last[key]) for key in wanted)
        with open(tmp_path / "progress.csv") as file:
            assert len(list(csv.DictReader(file))) == 4
        assert "distill/" in (tmp_path / "log.txt").read_text()
        assert model.rollout_buffer.full

    @each_engine
    def test_tensorboard_and_names(self, cls, tmp_path):
        """Numbered folders, going on in the last one without a reset, a name of the user's; ``verbose=1`` prints."""
        pytest.importorskip("tensorboard")
        model = student(cls, tensorboard_log=str(tmp_path), verbose=1, stats_window_size=3)
        model.learn(ROLLOUT)
        model.learn(ROLLOUT)
        model.learn(ROLLOUT, reset_num_timesteps=False)
        model.learn(ROLLOUT, tb_log_name="a name of mine" * 3)
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {f"{cls.__name__}_1", f"{cls.__name__}_2", "a name of mine" * 3 + "_1"}
        assert model.ep_info_buffer.maxlen == 3

    @each_engine
    def test_a_class_of_the_users_with_a_long_name(self, cls, tmp_path, capsys):
        pytest.importorskip("tensorboard")
        long = type("StudentOfTheTeacherThatWasTrainedLastSummer", (cls,), {})
        settings = dict(tensorboard_log=str(tmp_path), verbose=1, policy_kwargs=dict(net_arch=[8]), n_steps=8)
        model = long(policy_of(cls, "Mlp"), countdown_envs(), teacher=teacher_for(countdown_envs()), **settings)
        model.learn(64, log_interval=1)
        assert [path.name for path in tmp_path.iterdir()] == [f"{long.__name__}_1"]
        assert "distill/" in capsys.readouterr().out


class TestEnvironments:
    @every_class
    @pytest.mark.parametrize("wrap", [VecNormalize, VecMonitor, VecCheckNan], ids=lambda w: w.__name__)
    def test_wrappers(self, cls, wrap):
        env = wrap(countdown_envs())
        model = student(cls, env, teacher=teacher_for(countdown_envs())).learn(2 * ROLLOUT)
        assert model.get_env() is env
        assert model.get_vec_normalize_env() is (env if wrap is VecNormalize else None)
        if wrap is VecMonitor:
            assert all(info["r"] == info["l"] == 5 for info in model.ep_info_buffer)
        if wrap is VecNormalize:
            assert env.obs_rms.count > ROLLOUT

    @each_engine
    def test_nan_is_found(self, cls):
        class Broken(CountdownEnv):
            def step(self, action):
                obs, *rest = super().step(action)
                return (obs * np.nan, *rest)

        env = VecCheckNan(DummyVecEnv([Broken]), raise_exception=True)
        with pytest.raises(ValueError, match="nan"):
            student(cls, env, teacher=teacher_for(countdown_envs())).learn(ROLLOUT)

    @each_engine
    def test_stacked_observations(self, cls):
        env = VecFrameStack(countdown_envs(), 2)
        student(cls, env, teacher=actor_critic_teacher(CountdownEnv(env.observation_space))).learn(ROLLOUT)

    @every_class
    def test_monitor_and_a_single_environment(self, cls, tmp_path):
        """Returns in its file are the environment's own, whatever was optimised."""
        env = Monitor(CountdownEnv(), str(tmp_path / "monitor"))
        student(cls, env, teacher=teacher_for(countdown_envs())).learn(2 * ROLLOUT)
        env.close()
        rows = (tmp_path / "monitor.monitor.csv").read_text().splitlines()[2:]
        assert rows and all(float(row.split(",")[0]) == 5.0 for row in rows)

    @each_engine
    def test_an_id(self, cls):
        teacher = load_teacher("zoo:dqn/CartPole-v1", temperature=0.1)
        model = student(cls, gym.make("CartPole-v1"), teacher=teacher).learn(ROLLOUT)
        assert model.get_env().num_envs == 1
        assert isinstance(model.ep_info_buffer[0]["r"] if model.ep_info_buffer else 0.0, float)
