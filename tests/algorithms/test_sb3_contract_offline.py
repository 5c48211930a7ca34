"""What SB3 asks of DQN holds for students of a teacher's answers, as far as they play, read or learn as a DQN does.

Left out, since a student has none of it: the target network and its updates, exploration of its own (the teacher acts), n-step
returns, HER, ``learning_starts``, and the kind of the replay buffer (a memory has states and answers and no transitions).
Of a saved memory tells ``test_replay_file.py``.
"""

import csv
import io
import json

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common import callbacks
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)
from stable_baselines3.dqn.policies import DQNPolicy
from test_policy_distillation import channels_first, q_teacher, recorded, same, weights

from envs_for_tests import ACTION_SPACES, DICT_SPACE, IMAGE_SPACE, CountdownEnv, actor_critic_teacher
from sb3_classes import check_parameters, countdown_envs
from sb3_distill.algorithms.multi_task import MultiTaskDistillation
from sb3_distill.algorithms.online import OnlineDistillation
from sb3_distill.algorithms.policy_distillation import PolicyDistillation

#: a student that plays, or reads a memory, and leaves as one of SB3's; several tasks in one student
ONE_TASK = ["playing dqn", "playing ppo", "reading dqn", "reading ppo"]
KINDS = [*ONE_TASK, "playing tasks", "reading tasks"]
PLAYING = [kind for kind in ONE_TASK if "playing" in kind]
#: steps of a round of two environments, or of both tasks' episodes, or minibatches
ROUND = 10
SMALL = dict(policy_kwargs=dict(net_arch=[8]), batch_size=5, device="cpu")

every_kind = pytest.mark.parametrize("kind", KINDS)
every_student = pytest.mark.parametrize("kind", ONE_TASK)
every_player = pytest.mark.parametrize("kind", PLAYING)
both_networks = pytest.mark.parametrize("network", ["dqn", "ppo"])


def sources(kind, seed=0):
    """What a student learns from, new at each call, but always the same."""
    if kind == "playing tasks":
        return dict(env={t: countdown_envs(n_envs=1, seed=seed) for t in "ab"}, teacher={t: q_teacher() for t in "ab"})
    if kind == "reading tasks":
        return dict(memory={task: recorded() for task in "ab"})
    return dict(memory=recorded()) if "reading" in kind else dict(env=countdown_envs(seed=seed), teacher=q_teacher())


def class_of(kind):
    return MultiTaskDistillation if "tasks" in kind else PolicyDistillation


def student(kind, policy="MlpPolicy", **kwargs):
    """
    :param kind: one of ``KINDS``
    :param kwargs: instead of what it has by itself
    """
    train_freq = ROUND // 2 if kind in PLAYING else ROUND
    network = "ppo" if "ppo" in kind else "dqn"
    made = sources(kind) | SMALL | dict(train_freq=train_freq, student=network, seed=0)
    return class_of(kind)(policy, **made | kwargs)


def policies(model):
    return [model.task(task) for task in model.task_ids] if isinstance(model, MultiTaskDistillation) else [model.policy]


def some_obs(n=5):
    return np.random.default_rng(0).uniform(-1, 1, (n, 3)).astype(np.float32)


def actions(model):
    return [policy.predict(some_obs(), deterministic=True)[0].tolist() for policy in policies(model)]


def saved(model):
    file = io.BytesIO()
    model.save(file)
    return file


class Moody(BaseFeaturesExtractor):
    """With BatchNorm and Dropout, which differ between training and play."""

    def __init__(self, space, width=6):
        super().__init__(space, width)
        self.net = th.nn.Sequential(th.nn.Linear(3, width), th.nn.BatchNorm1d(width), th.nn.Dropout(0.5))

    def forward(self, obs):
        return self.net(obs)


class TestRun:
    @every_kind
    def test_as_long_as_it_is_told(self, kind):
        """At least as many steps as asked for, in whole rounds, or as many minibatches; again from 0, or on from there."""
        model = student(kind)
        assert model.learn(2 * ROUND + 1) is model
        first = 2 * ROUND + 1 if "reading" in kind else 3 * ROUND
        assert model.num_timesteps == first
        model.learn(ROUND, reset_num_timesteps=False)
        assert model.num_timesteps == first + ROUND
        model.learn(ROUND)
        assert model.num_timesteps == ROUND
        before = weights(model)
        assert model.learn(0).num_timesteps == 0 and same(weights(model), before)
        assert not same(before, weights(student(kind)))

    @every_kind
    def test_a_seed_decides(self, kind):
        """The constructor's, and one that is set later; another one makes another student."""
        runs = [student(kind).learn(2 * ROUND) for _ in range(2)]
        assert same(weights(runs[0]), weights(runs[1]))
        for model in runs:
            model.set_random_seed(3)
            model.learn(ROUND, reset_num_timesteps=False)
        assert same(weights(runs[0]), weights(runs[1])) and actions(runs[0]) == actions(runs[1])
        assert not same(weights(student(kind, seed=1).learn(2 * ROUND)), weights(student(kind).learn(2 * ROUND)))

    @every_kind
    @pytest.mark.parametrize(
        "rate", [1e-3, lambda p: 1e-3 * p, lambda p: np.float64(p) * 1e-3, lambda p: th.tensor(1e-3)]
    )
    def test_learning_rates(self, kind, rate):
        """Numbers and schedules, also of NumPy's and torch's numbers: the optimiser has a number of Python's."""
        model = student(kind, learning_rate=rate).learn(2 * ROUND)
        (group,) = model.policy.optimizer.param_groups
        assert type(group["lr"]) is float
        # The last round's: half of the run is left when a memory's round begins, and none when a played one ends.
        left = 1.0 if not callable(rate) or th.is_tensor(rate(1.0)) else 0.5 if "reading" in kind else 0.0
        assert group["lr"] == pytest.approx(1e-3 * left)

    @every_kind
    @pytest.mark.parametrize(("name", "value"), [("train_freq", 0), ("batch_size", -1)])
    def test_rounds_and_minibatches_of_nothing_are_refused(self, kind, name, value):
        """A memory would be read for ever."""
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not {value}"):
            student(kind, **{name: value})
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not {value}"):
            class_of(kind).load(saved(student(kind)), **{name: value})

    @every_student
    def test_units_of_rounds(self, kind):
        student(kind, train_freq=(3, "step")).learn(ROUND)
        for given, message in [((1, "invalid"), "unit of the `train_freq`"), ((1.5, "step"), "must be an integer")]:
            with pytest.raises(ValueError, match=message):
                student(kind, train_freq=given)

    @both_networks
    def test_rounds_of_episodes(self, network):
        """Of one environment, as with SB3."""
        kind = f"playing {network}"
        model = student(kind, env=CountdownEnv(), train_freq=(2, "episode")).learn(11)
        assert model.num_timesteps == 20 and model._n_updates == 20
        with pytest.raises(AssertionError, match="only one env"):
            student(kind, train_freq=(1, "episode")).learn(ROUND)


class TestPredicting:
    @every_student
    def test_one_state_and_several(self, kind):
        model = student(kind).learn(ROUND)
        for deterministic in (True, False):
            many, state = model.predict(some_obs(), deterministic=deterministic)
            assert state is None and many.shape == (5,)
            one, _ = model.predict(some_obs()[0], deterministic=deterministic)
            assert one.shape == () and model.action_space.contains(one.astype(np.int64))
        started = model.predict(some_obs(), state=None, episode_start=np.ones(5, bool), deterministic=True)[0]
        assert started.tolist() == actions(model)[0]
        assert np.isfinite(evaluate_policy(model, countdown_envs(), 2, warn=False)[0])
        for shape in [(2, 2), (1, 1, 3), (2, 0)]:
            with pytest.raises(ValueError, match="Unexpected observation shape"):
                model.predict(np.zeros(shape, np.float32))
        with pytest.raises(ValueError, match="tuple"):
            model.predict((some_obs()[0], {}))

    @every_kind
    def test_train_and_eval_mode(self, kind):
        """It plays and predicts in the one and learns in the other, also where a callback plays in between."""
        model = student(kind, policy_kwargs=dict(features_extractor_class=Moody, net_arch=[]))
        policy = policies(model)[0]
        net = policy.q_net if isinstance(policy, DQNPolicy) else policy
        norm, moves = net.features_extractor.net[1], []

        class Watch(callbacks.BaseCallback):
            def _on_rollout_start(self):
                moves.append(norm.running_mean.clone())

            def _on_step(self):
                before = norm.running_mean.clone()
                assert actions(model) == actions(model)
                assert th.equal(before, norm.running_mean) and not policy.training
                return True

        model.learn(3 * ROUND, callback=Watch())
        assert len(moves) == 3 and not th.equal(moves[1], moves[0]) and not th.equal(moves[2], moves[1])
        assert actions(model) == actions(model) and not policy.training

    def test_of_several_tasks_one_has_to_be_named(self):
        with pytest.raises(ValueError, match=r"call model\.task"):
            student("playing tasks").predict(some_obs())


class TestSavingAndLoading:
    @every_kind
    def test_what_is_loaded_is_what_was_saved(self, kind, tmp_path):
        """Weights, actions, settings and optimiser; from a path, a name and an open file; and all of them go on alike."""
        model = student(kind, epsilon=0.25, learning_rate=1e-3).learn(2 * ROUND)
        model.save(tmp_path / "deep" / "by_path.zip")
        model.save(str(tmp_path / "by_name"))
        with open(tmp_path / "by_file", "wb") as file:
            model.save(file)
        files = [saved(model), tmp_path / "deep" / "by_path.zip", str(tmp_path / "by_name")]
        loaded = [class_of(kind).load(file, **sources(kind), device="cpu", print_system_info=True) for file in files]
        with open(tmp_path / "by_file", "rb") as file:
            loaded.append(class_of(kind).load(file, **sources(kind), device="cpu"))
        for other in loaded:
            assert same(weights(other), weights(model)) and actions(other) == actions(model)
            assert (other.epsilon, other.learning_rate, other.batch_size) == (0.25, 1e-3, 5)
            assert (other.num_timesteps, other._n_updates) == (model.num_timesteps, model._n_updates)
            other.set_random_seed(3)
            other.learn(2 * ROUND, reset_num_timesteps=False)
            assert other.num_timesteps == 4 * ROUND
        assert not same(weights(loaded[0]), weights(model))
        assert all(same(weights(other), weights(loaded[0])) for other in loaded)

    @every_student
    def test_alone_and_as_sb3s_own(self, kind, tmp_path):
        """What is saved needs no environment, teacher or memory; other settings can be given, but no other network."""
        model = student(kind).learn(ROUND)
        model.save(tmp_path / "student")
        plain = (PPO if "ppo" in kind else DQN).load(tmp_path / "student", device="cpu")
        alone = PolicyDistillation.load(
            tmp_path / "student", device="cpu", custom_objects={"learning_rate": 1e-3}, batch_size=7, loss="nll"
        )
        assert (alone.env, alone.teacher, alone.memory) == (None, None, None)
        assert (alone.learning_rate, alone.batch_size, alone.loss) == (1e-3, 7, "nll")
        assert actions(plain) == actions(alone) == actions(model)
        with pytest.raises(ValueError, match="policy kwargs do not equal"):
            PolicyDistillation.load(tmp_path / "student", policy_kwargs=dict(net_arch=[3]))

    @every_player
    def test_with_other_environments(self, kind, tmp_path):
        student(kind).save(tmp_path / "student")
        more = PolicyDistillation.load(
            tmp_path / "student", env=countdown_envs(n_envs=4), teacher=q_teacher(), device="cpu"
        )
        assert (more.n_envs, more.learn(ROUND).num_timesteps) == (4, 20)
        for space, message in [
            ({"observation_space": IMAGE_SPACE}, "Obs"),
            ({"action_space": spaces.Discrete(5)}, "A"),
        ]:
            with pytest.raises(ValueError, match=f"{message}.* spaces do not match"):
                PolicyDistillation.load(tmp_path / "student", env=countdown_envs(**space), teacher=q_teacher())

    def test_tasks_with_other_environments(self):
        file = saved(student("playing tasks"))
        wrong = {"a": countdown_envs(n_envs=1), "b": countdown_envs(n_envs=1, action_space=spaces.Discrete(5))}
        with pytest.raises(ValueError, match="Action spaces do not match"):
            MultiTaskDistillation.load(file, env=wrong, teacher=sources("playing tasks")["teacher"])

    @every_kind
    def test_what_is_left_out_and_what_is_put_in(self, kind, tmp_path):
        model = student(kind)
        model.extra = "mine"
        model.save(tmp_path / "student", exclude=["gamma", "extra"])
        assert not hasattr(class_of(kind).load(tmp_path / "student"), "extra")
        model.save(tmp_path / "student", include=["extra"])
        assert class_of(kind).load(tmp_path / "student").extra == "mine"

    @every_kind
    def test_parameters(self, kind):
        """All of them, or some with exact_match=False; names too many or too few are SB3's errors."""
        a, b = student(kind).learn(ROUND), student(kind, seed=1)
        check_parameters(a, b, lambda a, b: same(weights(a), weights(b)))
        assert actions(a) == actions(b)

    @every_kind
    def test_the_policy_alone(self, kind, tmp_path):
        """And of several tasks each one's."""
        model = student(kind).learn(ROUND)
        for policy, acts in zip(policies(model), actions(model), strict=True):
            policy.save(tmp_path / "policy.pkl")
            again = type(policy).load(tmp_path / "policy.pkl", device="cpu")
            assert again.predict(some_obs(), deterministic=True)[0].tolist() == acts

    @every_student
    @pytest.mark.parametrize(
        "policy_kwargs",
        [
            dict(net_arch=[]),
            dict(net_arch=[4], activation_fn=th.nn.Tanh, optimizer_class=th.optim.RMSprop),
            dict(net_arch=[4], optimizer_class=th.optim.SGD, optimizer_kwargs=dict(momentum=0.9)),
            dict(net_arch=[4], features_extractor_class=Moody, features_extractor_kwargs=dict(width=4)),
        ],
        ids=["none", "RMSprop", "SGD", "own"],
    )
    def test_policy_kwargs(self, kind, policy_kwargs):
        model = student(kind, policy_kwargs=policy_kwargs).learn(ROUND)
        loaded = PolicyDistillation.load(saved(model), **sources(kind), device="cpu")
        assert same(weights(loaded), weights(model))
        assert type(loaded.policy.optimizer) is policy_kwargs.get("optimizer_class", th.optim.Adam)
        loaded.learn(ROUND)

    @every_player
    def test_a_memory_goes_along(self, kind, tmp_path):
        """As SB3's replay buffer does: beside the student, by itself or by a callback, and it is filled on."""
        model = student(kind)
        model.learn(2 * ROUND, callback=callbacks.CheckpointCallback(ROUND // 2, tmp_path, save_replay_buffer=True))
        loaded = PolicyDistillation.load(tmp_path / f"rl_model_{ROUND}_steps", **sources(kind), device="cpu")
        loaded.load_replay_buffer(tmp_path / f"rl_model_replay_buffer_{ROUND}_steps")
        assert len(loaded.replay_buffer) == ROUND
        loaded.learn(ROUND, reset_num_timesteps=False)
        assert len(loaded.replay_buffer) == loaded.num_timesteps == 2 * ROUND


class TestEnvironments:
    @every_player
    def test_another_one(self, kind):
        """Of as many copies and the same spaces; where the episode goes on, or a new one begins."""
        model = student(kind)
        first, other = model.get_env(), countdown_envs(seed=7)
        model.learn(ROUND)
        model.set_env(other)
        assert model.get_env() is other is not first
        assert model.learn(ROUND, reset_num_timesteps=False).num_timesteps == 2 * ROUND
        model.set_env(other, force_reset=False)
        model.learn(ROUND, reset_num_timesteps=False)
        with pytest.raises(AssertionError, match="number of environments"):
            model.set_env(countdown_envs(n_envs=3))
        with pytest.raises(ValueError, match="Action spaces do not match"):
            model.set_env(countdown_envs(action_space=spaces.Discrete(5)))
        single = student(kind, env=CountdownEnv()).learn(ROUND)
        assert single.get_env().num_envs == 1

    @every_player
    @pytest.mark.parametrize("wrap", [VecNormalize, VecMonitor, VecCheckNan], ids=lambda w: w.__name__)
    def test_wrappers(self, kind, wrap):
        env = wrap(countdown_envs())
        model = student(kind, env=env).learn(3 * ROUND)
        assert model.get_env() is env
        assert model.get_vec_normalize_env() is (env if wrap is VecNormalize else None)
        if wrap is VecMonitor:
            assert all(info["r"] == info["l"] == 5 for info in model.ep_info_buffer)
        if wrap is VecNormalize:
            assert env.obs_rms.count > 3 * ROUND
            raw = next(iter(model.replay_buffer.batches(100, 0))).observations
            assert len(raw) == 3 * ROUND and np.abs(raw).max() <= 1  # as the environment gave them

    @every_player
    def test_statistics_move_only_where_they_are_to(self, kind, tmp_path):
        env = VecNormalize(countdown_envs())
        model = student(kind, env=env).learn(2 * ROUND)
        env.save(str(tmp_path / "statistics"))
        other = VecNormalize.load(str(tmp_path / "statistics"), countdown_envs())
        other.training = False
        loaded = PolicyDistillation.load(saved(model), env=other, teacher=q_teacher(), device="cpu").learn(ROUND)
        assert loaded.get_vec_normalize_env() is other
        assert np.array_equal(other.obs_rms.mean, env.obs_rms.mean)
        other.training = True
        loaded.learn(ROUND)
        assert not np.array_equal(other.obs_rms.mean, env.obs_rms.mean)

    @every_player
    def test_nan_is_found(self, kind):
        class Broken(CountdownEnv):
            def step(self, action):
                obs, *rest = super().step(action)
                return (obs * np.nan, *rest)

        with pytest.raises(ValueError, match="nan"):
            student(kind, env=VecCheckNan(DummyVecEnv([Broken]), raise_exception=True)).learn(ROUND)

    @every_player
    def test_returns_are_the_environments_own(self, kind, tmp_path):
        env = Monitor(CountdownEnv(), str(tmp_path / "monitor"))
        model = student(kind, env=env).learn(2 * ROUND)
        env.close()
        rows = (tmp_path / "monitor.monitor.csv").read_text().splitlines()[2:]
        assert [float(row.split(",")[0]) for row in rows] == [5.0] * 4 == [info["r"] for info in model.ep_info_buffer]

    @every_player
    @pytest.mark.parametrize(
        "space",
        [spaces.Discrete(4), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3), spaces.Box(-1.0, 1.0, (2, 3))],
        ids=str,
    )
    def test_observation_spaces(self, kind, space):
        model = student(kind, env=countdown_envs(space), teacher=q_teacher(space)).learn(2 * ROUND)
        obs = space.sample()
        assert model.predict(obs)[0].shape == () and model.predict(np.stack([obs, obs]))[0].shape == (2,)

    @pytest.mark.parametrize("space", list(ACTION_SPACES))
    def test_action_spaces(self, space):
        """A DQN's are discrete, an actor-critic's are any; else it is said before any work."""
        actions = ACTION_SPACES[space]
        kwargs = dict(env=countdown_envs(action_space=actions))
        kwargs["teacher"] = actor_critic_teacher(CountdownEnv(action_space=actions))
        model = student("playing ppo", **kwargs).learn(2 * ROUND)
        assert model.predict(some_obs())[0].shape == (5, *actions.shape)
        if space == "discrete":
            student("playing dqn", **kwargs).learn(ROUND)
        else:
            with pytest.raises(ValueError, match="needs Discrete actions"):
                student("playing dqn", **kwargs)

    @every_player
    def test_what_sb3_refuses(self, kind):
        with pytest.raises(NotImplementedError, match="Nested"):
            student(kind, env=countdown_envs(spaces.Dict({"a": DICT_SPACE})))
        with pytest.raises(ValueError, match="MultiInputPolicy"):
            student(kind, env=countdown_envs(DICT_SPACE))
        with pytest.raises(ValueError, match=r"needs Discrete actions|its action space is Discrete"):
            student(kind, env=countdown_envs(action_space=DICT_SPACE))


class TestDictsAndImages:
    @every_student
    @pytest.mark.parametrize(
        "wrap", [lambda env: env, VecNormalize, lambda env: VecNormalize(env, norm_obs_keys=["a"])]
    )
    def test_dicts(self, kind, wrap):
        teacher = actor_critic_teacher(CountdownEnv(DICT_SPACE))
        if "reading" in kind:
            given = dict(memory=recorded(teacher=teacher))
        else:
            given = dict(env=wrap(countdown_envs(DICT_SPACE)), teacher=teacher)
        model = student(kind, "MultiInputPolicy", **given).learn(2 * ROUND)
        obs = {key: np.stack([space.sample()] * 3) for key, space in DICT_SPACE.items()}
        acts = model.predict(obs, deterministic=True)[0]
        assert acts.shape == (3,)
        loaded = PolicyDistillation.load(saved(model), **given, device="cpu")
        assert np.array_equal(loaded.predict(obs, deterministic=True)[0], acts)
        loaded.learn(ROUND)

    @every_player
    @pytest.mark.parametrize("stacked", [False, True], ids=["one frame", "two frames"])
    def test_images_with_vectors(self, kind, stacked):
        space = spaces.Dict({"image": IMAGE_SPACE, "vector": spaces.Box(-1.0, 1.0, (3,))})
        env = countdown_envs(space)
        env = VecFrameStack(env, 2) if stacked else env
        teacher = actor_critic_teacher(CountdownEnv(VecTransposeImage(env).observation_space), net_arch=[4])
        model = student(kind, "MultiInputPolicy", env=env, teacher=teacher, policy_kwargs=dict(net_arch=[4]))
        model.learn(2 * ROUND)
        obs = env.reset()
        assert model.predict(obs)[0].shape == (2,) and len(model.replay_buffer) == 2 * ROUND

    @every_student
    @pytest.mark.parametrize("normalize_images", [True, False])
    def test_images(self, kind, normalize_images):
        """They arrive channels last, and both kinds are predicted, before and after saving."""
        arch = dict(features_extractor_kwargs=dict(features_dim=8), net_arch=[], normalize_images=normalize_images)
        env = countdown_envs(IMAGE_SPACE)
        space = channels_first(env)
        teacher = q_teacher(space)
        given = dict(memory=recorded(20, teacher)) if "reading" in kind else dict(env=env, teacher=teacher)
        model = student(kind, "CnnPolicy", policy_kwargs=arch, **given).learn(ROUND)
        obs = np.random.default_rng(0).integers(0, 255, (4, 36, 36, 1)).astype(np.uint8)
        loaded = PolicyDistillation.load(saved(model), device="cpu")
        acts = [
            who.predict(images, deterministic=True)[0].tolist()
            for who in (model, loaded)
            for images in (obs, obs.transpose(0, 3, 1, 2))
        ]
        assert acts == [acts[0]] * 4


class Spy(callbacks.BaseCallback):
    """What it hears, in order."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def _init_callback(self):
        self.heard.append("init")

    def _on_training_start(self):
        self.heard.append("start")

    def _on_rollout_start(self):
        self.heard.append("round")

    def _on_step(self):
        self.heard.append("step")
        return True

    def _on_rollout_end(self):
        self.heard.append("end of round")

    def _on_training_end(self):
        self.heard.append("end")


class TestCallbacks:
    @every_kind
    def test_what_they_hear(self, kind):
        spy = Spy()
        student(kind).learn(2 * ROUND, callback=spy)
        per_round = ROUND // 2 if kind in PLAYING else ROUND
        a_round = ["round", *["step"] * per_round, "end of round"]
        assert spy.heard == ["init", "start", *a_round, *a_round, "end"]

    @every_kind
    def test_what_they_can_look_at(self, kind):
        """SB3's own look for ``dones`` and RL Zoo's for ``infos``; ``self`` is the whole student, of several tasks, too."""
        model, seen = student(kind), []
        model.learn(2 * ROUND, callback=lambda local, _: seen.append(dict(local)) or True)
        assert all(local["self"] is model for local in seen)
        n_envs = 2 if kind in PLAYING else 1
        for name in ("dones", "infos", "rewards"):
            assert all(len(local[name]) == n_envs for local in seen)
        n_ends = sum(np.sum(local["dones"]) for local in seen)
        assert n_ends == (0 if "reading" in kind else 4)

    @every_student
    def test_all_of_sb3s(self, kind, tmp_path):
        """Each does what it does with SB3's own, all in one run."""
        seen = []
        best = callbacks.StopTrainingOnRewardThreshold(1e9, verbose=0)
        evaluation = callbacks.EvalCallback(
            DummyVecEnv([lambda: Monitor(CountdownEnv())]),
            callback_on_new_best=best,
            callback_after_eval=callbacks.StopTrainingOnNoModelImprovement(1000, min_evals=1),
            n_eval_episodes=1,
            eval_freq=5,
            log_path=str(tmp_path),
            best_model_save_path=str(tmp_path),
            verbose=0,
        )
        model = student(kind)
        n_steps = 2 * ROUND // (2 if kind in PLAYING else 1)
        model.learn(
            2 * ROUND,
            callback=[
                evaluation,
                callbacks.CheckpointCallback(5, str(tmp_path / "checkpoints"), save_vecnormalize=True),
                callbacks.EveryNTimesteps(ROUND, callbacks.ConvertCallback(lambda *_: seen.append("n") or True)),
                callbacks.LogEveryNTimesteps(ROUND),
                callbacks.StopTrainingOnMaxEpisodes(1000),
                callbacks.ConvertCallback(lambda local, _: seen.append(local["self"]) or True),
            ],
            progress_bar=True,
        )
        assert seen.count("n") >= 1 and seen.count(model) == n_steps
        assert len(evaluation.evaluations_results) == len(list((tmp_path / "checkpoints").iterdir())) == n_steps // 5
        PolicyDistillation.load(tmp_path / "best_model")

    @pytest.mark.parametrize("kind", ["playing tasks", "reading tasks"])
    def test_sb3s_with_several_tasks(self, kind, tmp_path):
        """All but evaluation, since a task has to be named."""
        model = student(kind)
        count = []
        model.learn(
            2 * ROUND,
            callback=[
                callbacks.CheckpointCallback(ROUND, str(tmp_path)),
                callbacks.EveryNTimesteps(ROUND, callbacks.ConvertCallback(lambda *_: count.append(1) or True)),
                callbacks.LogEveryNTimesteps(ROUND),
                callbacks.StopTrainingOnMaxEpisodes(1000),
            ],
            progress_bar=True,
        )
        assert len(count) == 2
        assert sorted(path.name for path in tmp_path.iterdir()) == [f"rl_model_{n * ROUND}_steps.zip" for n in (1, 2)]
        MultiTaskDistillation.load(tmp_path / f"rl_model_{ROUND}_steps")

    @every_kind
    def test_those_that_stop_a_run(self, kind):
        """It stops in the step in which it is told to, and goes on when it is asked to."""
        model = student(kind)
        model.learn(10 * ROUND, callback=callbacks.StopTrainingOnMaxEpisodes(3))
        # Three of each environment's; of several tasks three in all; and a memory has no episodes.
        assert model.num_timesteps == (10 * ROUND if "reading" in kind else 30 if kind in PLAYING else 15)
        model.learn(10 * ROUND, callback=lambda local, _: model.num_timesteps < 4)
        assert model.num_timesteps == 4
        model.learn(ROUND, reset_num_timesteps=False)
        assert model.num_timesteps == 4 + ROUND

    @every_student
    def test_evaluations_that_stop_a_run(self, kind):
        env = DummyVecEnv([lambda: Monitor(CountdownEnv())])
        model = student(kind)
        low = callbacks.StopTrainingOnRewardThreshold(-1e9)
        callback = callbacks.EvalCallback(env, callback_on_new_best=low, n_eval_episodes=1, eval_freq=3, verbose=0)
        model.learn(10 * ROUND, callback=callbacks.CallbackList([callback]))
        assert callback.n_calls == 3
        none = callbacks.StopTrainingOnNoModelImprovement(1, min_evals=1)
        callback = callbacks.EvalCallback(env, callback_after_eval=none, n_eval_episodes=1, eval_freq=2, verbose=0)
        model.learn(10 * ROUND, callback=callback)
        assert callback.n_calls == 3 * 2  # every evaluation is the same: the first is best, and one is borne with

    @every_player
    def test_evaluation_under_vec_normalize(self, kind, tmp_path):
        """Statistics are those of training, and are saved; an environment without them is SB3's error."""
        env, other = VecNormalize(countdown_envs()), VecNormalize(countdown_envs(n_envs=1), training=False)
        evaluation = callbacks.EvalCallback(other, n_eval_episodes=1, eval_freq=5, verbose=0, warn=False)
        saving = callbacks.CheckpointCallback(10, str(tmp_path), save_replay_buffer=True, save_vecnormalize=True)
        student(kind, env=env).learn(2 * ROUND, callback=[evaluation, saving])
        assert np.array_equal(other.obs_rms.mean, env.obs_rms.mean)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            *("rl_model_20_steps.zip", "rl_model_replay_buffer_20_steps.pkl", "rl_model_vecnormalize_20_steps.pkl")
        ]
        with (
            pytest.raises(AssertionError, match="synchronizing normalization"),
            pytest.warns(UserWarning, match="type"),
        ):
            bare = callbacks.EvalCallback(countdown_envs(n_envs=1), eval_freq=2, verbose=0)
            student(kind, env=VecNormalize(countdown_envs())).learn(ROUND, callback=bare)

    @every_kind
    def test_rl_zoos(self, kind, tmp_path):
        """But for its ParallelTrainCallback, which takes SAC and TQC alone."""
        pytest.importorskip("tensorboard")
        optuna = pytest.importorskip("optuna")
        zoo = pytest.importorskip("rl_zoo3.callbacks")
        wrap = VecNormalize if kind in PLAYING else lambda env, **_: env  # a memory is of no such statistics
        given = dict(env=wrap(countdown_envs())) if kind in PLAYING else {}
        model = student(kind, **given, tensorboard_log=str(tmp_path / "tb"))
        used = [zoo.SaveVecNormalizeCallback(save_freq=4, save_path=str(tmp_path)), zoo.RawStatisticsCallback()]
        if kind in ONE_TASK:
            other = wrap(DummyVecEnv([lambda: Monitor(CountdownEnv())]), training=False)
            trial = optuna.create_study().ask()
            used.append(zoo.TrialEvalCallback(other, trial, 1, eval_freq=4, verbose=0))
        model.learn(2 * ROUND, callback=used)
        assert (tmp_path / "vecnormalize.pkl").is_file() == (kind in PLAYING)
        with pytest.raises(AssertionError, match="not supported for parallel training"):
            model.learn(ROUND, callback=zoo.ParallelTrainCallback())


class TestLogging:
    @every_kind
    def test_what_is_logged(self, kind, tmp_path):
        """CSV, JSON and a table, by a logger of the user's: finite numbers under SB3's names and the library's."""
        model = student(kind)
        if kind in PLAYING:
            model.set_env(make_vec_env(CountdownEnv, 2, seed=0))
        logger = configure(str(tmp_path), ["csv", "json", "log"])
        model.set_logger(logger)
        model.learn(4 * ROUND, log_interval=1)
        assert model.logger is logger
        lines = [json.loads(line) for line in (tmp_path / "progress.json").read_text().splitlines()]
        wanted = ["time/total_timesteps", "train/learning_rate", "train/n_updates", "distill/loss"]
        if kind in PLAYING:
            wanted += ["rollout/ep_rew_mean", "rollout/ep_len_mean", "distill/memory", "distill/beta"]
        for key in wanted:
            values = [line[key] for line in lines if key in line]
            assert values and np.isfinite(values).all(), key
        with open(tmp_path / "progress.csv") as file:
            assert len(list(csv.DictReader(file))) == len(lines) >= 4
        assert "distill/" in (tmp_path / "log.txt").read_text()

    @every_kind
    def test_tensorboard_and_names(self, kind, tmp_path):
        """The class's name and a number, going on in the last one without a reset, or a name of the user's."""
        pytest.importorskip("tensorboard")
        model = student(kind, tensorboard_log=str(tmp_path), stats_window_size=3)
        model.learn(ROUND)
        model.learn(ROUND)
        model.learn(ROUND, reset_num_timesteps=False)
        model.learn(ROUND, tb_log_name="a name of mine" * 3)
        name = type(model).__name__
        assert {path.name for path in tmp_path.iterdir()} == {*(f"{name}_1", f"{name}_2", "a name of mine" * 3 + "_1")}
        assert model.ep_info_buffer.maxlen == 3

    @every_kind
    def test_a_class_of_the_users_with_a_long_name_talks(self, kind, tmp_path, capsys):
        pytest.importorskip("tensorboard")
        long = type("StudentOfTheTeacherThatWasTrainedLastSummer", (class_of(kind),), {})
        model = long("MlpPolicy", **sources(kind), **SMALL, train_freq=5, tensorboard_log=str(tmp_path), verbose=1)
        assert "Using cpu device" in capsys.readouterr().out
        model.learn(4 * ROUND, log_interval=1)
        said = capsys.readouterr().out
        assert "Logging to" in said and "distill/" in said and "total_timesteps" in said
        assert [path.name for path in tmp_path.iterdir()] == [f"{long.__name__}_1"]

    @every_kind
    def test_silence(self, kind, capsys):
        student(kind, verbose=0).learn(2 * ROUND, log_interval=1)
        student(kind, verbose=1).learn(2 * ROUND, log_interval=None)
        assert "total_timesteps" not in capsys.readouterr().out

    @every_player
    def test_success_is_logged(self, kind, tmp_path):
        """Of episodes that say ``is_success`` at their end, as SB3's off-policy algorithms have it."""

        class Telling(CountdownEnv):
            def step(self, action):
                *step, info = super().step(action)
                return (*step, info | {"is_success": step[2]})

        model = student(kind, env=Telling())
        model.set_logger(configure(str(tmp_path), ["json"]))
        model.learn(15, log_interval=3)
        logged = json.loads((tmp_path / "progress.json").read_text().splitlines()[-1])
        assert logged["rollout/success_rate"] == pytest.approx(2 / 3)


class TestFollowing:
    """OnlineDistillation is a callback of SB3's kind: it lives with others, and over several runs."""

    def follower(self, **kwargs):
        pupil = student("playing dqn", teacher=None)
        teacher = DQN("MlpPolicy", CountdownEnv(), learning_starts=10, policy_kwargs=dict(net_arch=[8]), device="cpu")
        return teacher, OnlineDistillation(pupil, lambda n: countdown_envs(n_envs=n), every=20, n_episodes=2, **kwargs)

    def test_beside_others_and_on(self, tmp_path):
        teacher, follow = self.follower(n_steps=ROUND)
        saving = callbacks.CheckpointCallback(10, str(tmp_path), save_replay_buffer=True)
        teacher.learn(40, callback=[saving, follow], progress_bar=True)
        assert [curve.steps for curve in follow.curves()] == [[0, 20, 40]] * 2
        assert len(list(tmp_path.iterdir())) == 8 and follow.student.num_timesteps == ROUND
        DQN.load(tmp_path / "rl_model_40_steps").load_replay_buffer(tmp_path / "rl_model_replay_buffer_40_steps")
        teacher.learn(20, callback=follow, reset_num_timesteps=False)
        assert follow.curves()[1].steps[-1] == 60

    def test_a_run_that_others_stop_has_a_last_point(self):
        teacher, follow = self.follower(n_steps=ROUND)
        teacher.learn(1_000, callback=[follow, callbacks.StopTrainingOnMaxEpisodes(5)])
        assert [curve.steps for curve in follow.curves()] == [[0, 20, 25]] * 2
