"""One student of several teachers: what tasks share and what they do not, how they take turns, and what leaves."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecTransposeImage
from stable_baselines3.dqn.policies import DQNPolicy

from envs_for_tests import CountdownEnv
from sb3_distill import load_teacher
from sb3_distill.algorithms.multi_task import MultiTaskDistillation
from sb3_distill.algorithms.policy_distillation import PolicyDistillation
from sb3_distill.memory.memory import About
from sb3_distill.memory.ring import RingMemory
from sb3_distill.students.features import MinAtarCNN
from sb3_distill.students.shared_trunk import SharedTrunk
from sb3_distill.teachers.q_network import QTeacher

#: ids, numbers of features and numbers of actions
TASKS = {"three": (3, 2), "five": (5, 4), "other": (3, 2)}
SMALL = dict(policy_kwargs=dict(net_arch=[16, 8]), device="cpu", batch_size=16, train_freq=12, seed=0)


def box(n):
    return spaces.Box(-1.0, 1.0, (n,), np.float32)


def q_teacher(observation_space, n_actions, name="random", seed=0):
    th.manual_seed(seed)
    policy = DQNPolicy(observation_space, spaces.Discrete(n_actions), lambda _: 0.0, net_arch=[16])
    for parameter in policy.parameters():
        parameter.data *= 4
    return QTeacher(policy, temperature=1.0, name=name)


def teachers():
    return {task: q_teacher(box(n), a, task, seed) for seed, (task, (n, a)) in enumerate(TASKS.items())}


def environments():
    return {
        task: DummyVecEnv([lambda n=n, a=a: CountdownEnv(box(n), spaces.Discrete(a))]) for task, (n, a) in TASKS.items()
    }


def memories(n=200):
    made = {}
    for task, teacher in teachers().items():
        memory = RingMemory(n, About(task, task, teacher.observation_space, teacher.action_space, "q_values"))
        teacher.observation_space.seed(0)
        obs = np.stack([teacher.observation_space.sample() for _ in range(n)])
        memory.add(obs, teacher.q_values(obs).numpy())
        made[task] = memory
    return made


def playing(**kwargs):
    return MultiTaskDistillation("MlpPolicy", environments(), teacher=teachers(), **(SMALL | kwargs))


def reading(**kwargs):
    return MultiTaskDistillation("MlpPolicy", memory=memories(), **(SMALL | kwargs))


def layers(policy):
    return {name: parameter for name, parameter in policy.q_net.named_parameters()}


# --- what is shared ---------------------------------------------------------------------------------------------------


def test_a_trunk_is_shared_and_first_and_last_layers_are_not():
    """The same tensors where all tasks have the same shapes; an own output layer even for equal numbers of actions."""
    model = reading()
    three, five, other = (layers(model.task(task)) for task in TASKS)
    for name in ("q_net.2.weight", "q_net.2.bias"):
        assert three[name] is five[name] is other[name]
    for name in ("q_net.0.weight", "q_net.0.bias", "q_net.4.weight", "q_net.4.bias"):
        assert len({id(own[name]) for own in (three, five, other)}) == 3
    assert [own["q_net.0.weight"].shape[1] for own in (three, five, other)] == [3, 5, 3]
    assert [own["q_net.4.weight"].shape[0] for own in (three, five, other)] == [2, 4, 2]


def test_the_first_layer_is_shared_too_where_all_observations_are_alike():
    alike = {task: box(3) for task in ("a", "b")}
    policies = [DQNPolicy(space, spaces.Discrete(2), lambda _: 1e-3, net_arch=[16, 8]) for space in alike.values()]
    SharedTrunk(policies, lambda _: 1e-3)
    a, b = (layers(policy) for policy in policies)
    assert {name for name in a if a[name] is b[name]} == {
        f"q_net.{k}.{what}" for k in (0, 2) for what in ("weight", "bias")
    }


def test_images_with_other_channels_share_all_but_the_first_convolution():
    """MinAtar's games have 4 to 10 channels."""
    policies = [
        DQNPolicy(
            spaces.Box(0, 1, (channels, 10, 10), np.uint8),
            spaces.Discrete(actions),
            lambda _: 1e-3,
            net_arch=[],
            features_extractor_class=MinAtarCNN,
            features_extractor_kwargs=dict(filters=(4,), features_dim=8),
        )
        for channels, actions in ((4, 3), (10, 6))
    ]
    trunk = SharedTrunk(policies, lambda _: 1e-3)
    a, b = (layers(policy) for policy in policies)
    assert {name for name in a if a[name] is b[name]} == {
        "features_extractor.linear.0.weight",
        "features_extractor.linear.0.bias",
    }
    linear = 4 * 8 * 8 * 8 + 8
    assert trunk.n_parameters == linear + sum(4 * (9 * c + 1) + 8 * n + n for c, n in ((4, 3), (10, 6)))


def test_running_statistics_are_shared_as_weights_are():
    """Batch normalisation of the trunk has one mean for all tasks."""
    nets = [DQNPolicy(box(n), spaces.Discrete(2), lambda _: 1e-3, net_arch=[4]).q_net for n in (3, 5)]
    for net in nets:
        net.norm, net.last = th.nn.BatchNorm1d(4), th.nn.Linear(4, 2)
    from sb3_distill.students.shared_trunk import share

    assert "norm" in share(nets)
    nets[0].norm(th.randn(8, 4))
    assert th.equal(nets[0].norm.running_mean, nets[1].norm.running_mean)
    assert nets[1].norm.running_mean.abs().sum() > 0


def test_an_actor_critic_shares_its_trunk():
    """Also between tasks with other kinds of actions; log σ belongs to a task."""
    actions = [spaces.Discrete(2), spaces.Box(-1.0, 1.0, (3,), np.float32), spaces.Box(-1.0, 1.0, (3,), np.float32)]
    policies = [ActorCriticPolicy(box(3), space, lambda _: 1e-3, net_arch=[8]) for space in actions]
    trunk = SharedTrunk(policies, lambda _: 1e-3)
    a, b, c = (dict(policy.named_parameters()) for policy in policies)
    assert a["mlp_extractor.policy_net.0.weight"] is b["mlp_extractor.policy_net.0.weight"]
    assert b["action_net.weight"] is not c["action_net.weight"]
    assert b["log_std"] is not c["log_std"]
    assert trunk.n_parameters == (3 * 8 + 8) + (8 * 2 + 2) + 2 * (8 * 3 + 3)


def test_size_counts_shared_layers_once():
    model = reading()
    own = sum(16 * n + 16 + 8 * a + a for n, a in TASKS.values())
    assert model.n_parameters == own + 16 * 8 + 8
    assert sum(p.numel() for p in model.policy.optimizer.param_groups[0]["params"]) == model.n_parameters


# --- turns ------------------------------------------------------------------------------------------------------------


class Spy(BaseCallback):
    """Which task has made each step, by the environments' own counts."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.turns, self.timesteps, self.rounds, self.stop_at = [], [], 0, stop_at

    def _on_rollout_start(self):
        self.rounds += 1

    def _on_step(self):
        sizes = {task: len(student.replay_buffer) for task, student in self.model.tasks.items()}
        self.turns.append(next(task for task in sizes if sizes[task] != getattr(self, "before", {}).get(task, 0)))
        self.before = sizes
        self.timesteps.append(self.num_timesteps)
        return self.n_calls != self.stop_at


def test_playing_the_task_is_switched_every_episode():
    """Five steps each, in turn; a round is whole: of 12 steps or more come 15; updates are as many."""
    spy = Spy()
    model = playing().learn(30, callback=spy)
    assert spy.turns == (["three"] * 5 + ["five"] * 5 + ["other"] * 5) * 2
    assert spy.timesteps == list(range(1, 31))
    assert (model.num_timesteps, model._n_updates, spy.rounds) == (30, 30, 2)
    assert {task: len(student.replay_buffer) for task, student in model.tasks.items()} == dict.fromkeys(TASKS, 10)


@pytest.mark.parametrize("make", [playing, reading])
def test_the_learning_rate_falls_with_the_steps_of_all_tasks(make):
    """SB3 sets it before each round of updates."""
    model = make(learning_rate=LinearSchedule(1e-3, 0.0, 1.0), train_freq=10)
    rates = []
    optimizer_step = model.policy.optimizer.step
    model.policy.optimizer.step = lambda: rates.append(model.policy.optimizer.param_groups[0]["lr"]) or optimizer_step()
    model.learn(30)
    # Playing, a round's updates come after its steps, of which there are 15; reading, they are its steps, of which there are 10.
    expected = [5e-4] * 15 + [0.0] * 15 if make is playing else [1e-3] * 10 + [2e-3 / 3] * 10 + [1e-3 / 3] * 10
    assert rates == pytest.approx(expected)


def test_tasks_whose_long_names_begin_alike_are_logged(capsys):
    """SB3's table cuts names to 36 characters, and an error ended the run where two became one."""
    tasks = [f"somebody/AnEnvironmentWithALongName-{level}-v0" for level in ("easy", "hard")]
    envs = {task: DummyVecEnv([lambda: Monitor(CountdownEnv(box(3), spaces.Discrete(2)))]) for task in tasks}
    model = MultiTaskDistillation(
        "MlpPolicy", envs, teacher={task: q_teacher(box(3), 2) for task in tasks}, verbose=1, **SMALL
    )
    model.learn(60, log_interval=1)
    assert all(task in capsys.readouterr().out for task in tasks[:1])


def test_a_callback_may_stop_in_any_task_and_it_goes_on():
    model = playing().learn(30, callback=Spy(stop_at=7))
    assert (model.num_timesteps, model._n_updates) == (7, 0)
    model.learn(15, reset_num_timesteps=False)
    assert model.num_timesteps == 22


def test_training_each_minibatch_is_of_the_next_task():
    """By the shapes of what comes; every task has as many, whatever its memory holds."""
    model = reading(temperature=0.01)  # else the loss is made when the memory is read
    seen = []
    for task, student in model.tasks.items():
        loss = student._state_loss
        student._state_loss = lambda t, s, task=task, loss=loss: seen.append((task, *t.shape)) or loss(t, s)
    model.learn(6)
    assert seen == [(task, 16, a) for task, (_, a) in TASKS.items()] * 2
    assert (model.num_timesteps, model._n_updates) == (6, 6)


def test_a_step_of_one_task_moves_the_trunk_and_no_other_tasks_own_layers():
    model = reading()
    before = {task: {k: v.clone() for k, v in layers(model.task(task)).items()} for task in TASKS}
    model.learn(1)  # a minibatch of the first task
    moved = {
        task: {
            name.partition(".")[2][0]
            for name, v in layers(model.task(task)).items()
            if not th.equal(v, before[task][name])
        }
        for task in TASKS
    }
    assert moved == {"three": {"0", "2", "4"}, "five": {"2"}, "other": {"2"}}


@pytest.mark.parametrize("student", ["dqn", "ppo"])
def test_every_task_learns_what_its_teacher_does(student):
    model = reading(student=student, temperature=0.1, learning_rate=1e-2, policy_kwargs=dict(net_arch=[32, 32]))
    model.learn(1_200)
    for task, memory in model.memory.items():
        (batch,) = memory.batches(200, 0)
        agreement = (
            model.task(task).predict(batch.observations, deterministic=True)[0] == batch.answers.argmax(1)
        ).mean()
        assert agreement > 0.9, task


def test_dagger_follows_the_steps_of_all_tasks_together():
    """The schedule is of the whole run, not of each task's own count."""
    seen = []
    playing(dagger=lambda remaining: seen.append(remaining) or 1.0).learn(30)
    # The constructor and each task look at both ends of the schedule; then come the steps.
    steps = [remaining for remaining in seen if 0 < remaining < 1]
    assert min(steps) == pytest.approx(1 / 30)
    assert sorted(set(np.round(steps, 6))) == [round(k / 30, 6) for k in range(1, 30)]


def test_a_seed_decides_everything():
    def run(make, seed):
        state = make(seed=seed, dagger=0.5 if make is playing else 1.0).learn(45).policy.state_dict()
        return th.cat([tensor.flatten().float() for tensor in state.values()])

    for make in (playing, reading):
        assert th.equal(run(make, 1), run(make, 1))
        assert not th.equal(run(make, 1), run(make, 2))


# --- what leaves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("student", ["dqn", "ppo"])
def test_a_task_is_a_plain_policy_and_leaves_as_a_plain_zip(student, tmp_path):
    """The classes are SB3's; the zip plays the same, and the student is not part of it."""
    model = reading(student=student).learn(30)
    policy = model.task("five")
    assert type(policy) is {"dqn": DQNPolicy, "ppo": ActorCriticPolicy}[student]
    model.save_task("five", tmp_path / "five")
    plain = {"dqn": DQN, "ppo": PPO}[student].load(tmp_path / "five", device="cpu")
    obs = memories()["five"]._observations[""]
    assert np.array_equal(plain.predict(obs, deterministic=True)[0], policy.predict(obs, deterministic=True)[0])
    assert load_teacher(
        tmp_path / "five.zip", **({"temperature": 1.0} if student == "dqn" else {})
    ).observation_space == box(5)
    alone = PolicyDistillation.load(tmp_path / "five", memory=memories()["five"], device="cpu")
    before = model.task("five").predict(obs, deterministic=True)[0]
    alone.learn(50)
    assert np.array_equal(model.task("five").predict(obs, deterministic=True)[0], before)


@pytest.mark.parametrize("mode", ["playing", "reading"])
def test_all_tasks_save_load_and_go_on_together(mode, tmp_path):
    model = (playing() if mode == "playing" else reading()).learn(45)
    model.save(tmp_path / "all")
    sources = dict(env=environments(), teacher=teachers()) if mode == "playing" else dict(memory=memories())
    again = MultiTaskDistillation.load(tmp_path / "all", device="cpu", **sources)
    assert again.task_ids == list(TASKS)
    for name, tensor in model.policy.state_dict().items():
        assert th.equal(tensor, again.policy.state_dict()[name])
    assert again.n_parameters == model.n_parameters
    assert layers(again.task("three"))["q_net.2.weight"] is layers(again.task("five"))["q_net.2.weight"]
    moments = [m.policy.optimizer.state_dict()["state"] for m in (model, again)]
    assert len(moments[0]) and all(th.equal(moments[0][k]["exp_avg"], moments[1][k]["exp_avg"]) for k in moments[0])
    again.learn(15, reset_num_timesteps=False)
    assert again.num_timesteps == 60
    alone = MultiTaskDistillation.load(tmp_path / "all", device="cpu")
    assert np.array_equal(alone.task("five").predict(np.zeros(5))[0], model.task("five").predict(np.zeros(5))[0])
    with pytest.raises(ValueError, match="has no teacher to learn from"):
        alone.learn(1)


def test_set_env_is_of_each_task(tmp_path):
    playing().save(tmp_path / "all")
    model = MultiTaskDistillation.load(tmp_path / "all", teacher=teachers(), device="cpu")
    model.set_env(environments())
    model.learn(15)
    assert model.num_timesteps == 15
    swapped = environments()
    swapped["three"] = swapped["five"]
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        MultiTaskDistillation.load(tmp_path / "all", env=swapped, device="cpu")


def test_evaluation_reports_each_task():
    model = reading()
    made = environments()
    returns = model.evaluate({task: lambda n, task=task: made[task] for task in TASKS}, n_episodes=1)
    assert {task: values.tolist() for task, values in returns.items()} == {task: [5.0] for task in TASKS}


def test_the_log_has_the_return_of_each_task():
    from stable_baselines3.common.monitor import Monitor

    monitored = {
        task: DummyVecEnv([lambda n=n, a=a: Monitor(CountdownEnv(box(n), spaces.Discrete(a)))])
        for task, (n, a) in TASKS.items()
    }
    model = MultiTaskDistillation("MlpPolicy", monitored, teacher=teachers(), **SMALL)
    logged = {}
    dump = {}

    class Keep(BaseCallback):
        def _on_training_start(self):
            dump["own"] = self.logger.dump
            self.logger.dump = lambda step=0: logged.update(self.logger.name_to_value)

        def _on_step(self):
            return True

    model.learn(30, callback=Keep(), log_interval=3)
    assert {f"return/{task}": 5.0 for task in TASKS}.items() <= logged.items()


@pytest.mark.zoo
def test_two_real_teachers_in_one_student(zoo):
    """CartPole's and Acrobot's zoo agents: 4 and 6 features, 2 and 3 actions, together 135,000 parameters; 1,605 here."""
    ids = ["CartPole-v1", "Acrobot-v1"]
    teacher = {task: load_teacher(f"zoo:dqn/{task}", temperature=1.0) for task in ids}
    kwargs = dict(policy_kwargs=dict(net_arch=[32, 32]), seed=0, device="cpu")
    model = MultiTaskDistillation("MlpPolicy", ids, teacher=teacher, **kwargs).learn(4_000)
    returns = {task: values.mean() for task, values in model.evaluate(n_episodes=6).items()}
    assert returns["CartPole-v1"] > 475
    assert returns["Acrobot-v1"] > -110


# --- bad input --------------------------------------------------------------------------------------------------------


def test_unknown_tasks_come_with_the_nearest():
    model = reading()
    for call in (model.task, lambda task: model.save_task(task, "nowhere"), lambda task: model.evaluate({task: "X"})):
        with pytest.raises(ValueError, match="Unknown task 'tree': did you mean 'three'"):
            call("tree")
    with pytest.raises(ValueError, match="Unknown task 'fife': did you mean 'five'"):
        MultiTaskDistillation("MlpPolicy", environments(), teacher=teachers() | {"fife": None}, **SMALL)


def test_tasks_that_are_not_the_same_everywhere():
    fewer = teachers()
    del fewer["five"]
    with pytest.raises(ValueError, match="teacher lacks the task 'five'"):
        MultiTaskDistillation("MlpPolicy", environments(), teacher=fewer, **SMALL)
    with pytest.raises(ValueError, match="There are no tasks: give env="):
        MultiTaskDistillation("MlpPolicy", teacher=fewer, **SMALL)


def test_what_is_wrong_with_one_task_is_said():
    with pytest.raises(ValueError, match="environment of the task 'five' has 2 copies: give one"):
        two = DummyVecEnv([lambda: CountdownEnv(box(5), spaces.Discrete(4))] * 2)
        MultiTaskDistillation("MlpPolicy", environments() | {"five": two}, teacher=teachers(), **SMALL)
    swapped = teachers()
    swapped["three"], swapped["five"] = swapped["five"], swapped["three"]
    with pytest.raises(ValueError, match=r"teacher five does not fit.*\(5,\).*\(3,\)"):
        MultiTaskDistillation("MlpPolicy", environments(), teacher=swapped, **SMALL)
    with pytest.raises(ValueError, match=r"Unknown loss 'hl'"):
        reading(loss="hl")


def test_predict_needs_a_task():
    with pytest.raises(ValueError, match=r"call model.task\(id\).predict"):
        reading().predict(np.zeros(3))


def test_images_of_a_task_are_preprocessed_as_sb3_does_it():
    """Channels last in the environment, first in the policy; another number of them in each task."""
    made, taught = {}, {}
    for seed, channels in enumerate((1, 3)):
        space = spaces.Box(0, 255, (36, 36, channels), np.uint8)
        made[str(channels)] = DummyVecEnv([lambda space=space: CountdownEnv(space)])
        taught[str(channels)] = q_teacher(VecTransposeImage(made[str(channels)]).observation_space, 3, seed=seed)
    model = MultiTaskDistillation(
        "CnnPolicy", made, teacher=taught, gradient_steps=2, **(SMALL | dict(policy_kwargs={}))
    )
    model.learn(10)
    a, b = (layers(model.task(task)) for task in made)
    assert [own["features_extractor.cnn.0.weight"].shape[1] for own in (a, b)] == [1, 3]
    assert a["features_extractor.cnn.2.weight"] is b["features_extractor.cnn.2.weight"]
    assert model.task("3").predict(made["3"].reset(), deterministic=True)[0].shape == (1,)
