"""MaskablePPO's machinery: no forbidden action is taken or counts, and without distillation it is sb3-contrib's own."""

import warnings
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecMonitor, VecNormalize

import sb3_distill
from envs_for_tests import CountdownEnv
from masked_envs import SPACES, MaskedEnv, Telling, is_allowed, masked_envs, masked_teacher
from sb3_classes import countdown_envs
from sb3_distill import (
    DistillMaskablePPO,
    EntropyRegularisedMaskablePPO,
    ExpectedEntropyDistillMaskablePPO,
    NDistill,
    NDistillA2C,
    NDistillMaskablePPO,
    NDistillRecurrentPPO,
    OnPolicyDistillMaskablePPO,
    TeacherDistillMaskablePPO,
    load_teacher,
)
from sb3_distill.algorithms import distillation
from sb3_distill.algorithms.engines import ENGINES, loading_class
from sb3_distill.common.masks import factors
from sb3_distill.evaluation.episodes import Heeding, greedy, play_episodes, random_play
from sb3_distill.experiment.comparison import likeness
from sb3_distill.memory import record
from sb3_distill.rules.methods import METHODS, NAMED
from sb3_distill.teachers.noise import made_noisy

CLASSES = ENGINES["maskable_ppo"].classes
SMALL = dict(n_steps=16, batch_size=16, n_epochs=2, seed=0, device="cpu", policy_kwargs=dict(net_arch=[8]))


def student(cls=NDistillMaskablePPO, env=None, policy="MlpPolicy", **kwargs):
    env = masked_envs() if env is None else env
    if "teacher" not in kwargs:
        kwargs["teacher"] = masked_teacher(env)
    return cls(policy, env, **(SMALL | kwargs))


def test_there_is_a_class_for_each_row():
    assert set(CLASSES) == {*METHODS["unbiased"], *NAMED}
    assert loading_class("maskable_ppo") is MaskablePPO
    ppo = ENGINES["ppo"].classes
    assert all(cls.__name__ == f"{ppo[row].__name__}MaskablePPO" for row, cls in CLASSES.items())
    for row, cls in CLASSES.items():  # with PPO's defaults
        ours, theirs = cls.settings(masked_envs()), ppo[row].settings(countdown_envs())
        shared = set(ours) & set(theirs)
        assert {name: str(ours[name]) for name in shared} == {name: str(theirs[name]) for name in shared}


@pytest.mark.parametrize("row", CLASSES)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_no_row_takes_a_forbidden_action_and_all_that_it_learns_from_is_finite(row, space):
    model = student(CLASSES[row], masked_envs(space)).learn(
        64, log_interval=100
    )  # the environment fails where a forbidden one is taken
    said = {name: value for name, value in model.logger.name_to_value.items() if name.startswith("distill/")}
    assert all(np.isfinite(value) for value in said.values())
    assert all(abs(value) < 100 for value in said.values()), said  # and not the 1e8 of what is forbidden
    assert np.isfinite(model.rollout_buffer.advantages).all()
    assert np.abs(model.rollout_buffer.advantages).max() < 100


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("control", ["teacher", "uniform", "mixed"])
def test_whoever_acts_takes_what_is_allowed(control, space):
    beta = dict(beta=0.5) if control == "mixed" else {}
    student(OnPolicyDistillMaskablePPO, masked_envs(space), control=control, **beta).learn(64)


def test_uniform_control_takes_all_that_is_allowed():
    class Two(MaskedEnv):
        taken: ClassVar[list] = []

        def _factor(self, size):
            return np.arange(size) >= size - 2

        def step(self, action):
            self.taken.append(int(action))
            return super().step(action)

    student(OnPolicyDistillMaskablePPO, masked_envs(env_class=Two), control="uniform").learn(128)
    assert 0.3 < np.mean(np.array(Two.taken) == 6) < 0.7 and set(Two.taken) == {5, 6}


@pytest.mark.parametrize("dicts", [False, True])
def test_without_distillation_it_is_maskable_ppo_to_the_bit(dicts):
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Box(-1, 1, (1,))}) if dicts else None
    policy = "MultiInputPolicy" if dicts else "MlpPolicy"
    settings = SMALL | dict(gamma=0.9, ent_coef=0.01)
    given = dict(teacher=masked_teacher(masked_envs(None, space)), method="n_distill", loss_coef=0.0, reward_coef=0.0)
    given |= dict(env_reward_coef=1.0, learning_rate=1e-3, max_grad_norm=0.5)
    ours = DistillMaskablePPO(policy, masked_envs(None, space), **(settings | given)).learn(96)
    theirs = MaskablePPO(policy, masked_envs(None, space), learning_rate=1e-3, **settings).learn(96)
    assert all(th.equal(a, b) for a, b in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True))


def expected(space, params, masks):
    """π among what is allowed, by probabilities in float64; of MultiBinary with a column for 0 and for 1."""
    params = np.asarray(params, np.float64)
    if isinstance(space, spaces.MultiBinary):
        params = np.stack([np.zeros_like(params), params], axis=-1).reshape(len(params), -1)
    parts = []
    edges = np.cumsum(factors(space))[:-1]
    for part, mask in zip(np.split(params, edges, axis=1), np.split(masks, edges, axis=1), strict=True):
        p = np.exp(part - part.max(1, keepdims=True)) * mask
        parts.append(p / p.sum(1, keepdims=True))
    return parts


def kl(p, q):
    """Of two lists of factors' probabilities, 0 log 0 being 0."""
    return sum(
        np.where(a > 0, a * (np.log(np.maximum(a, 1e-300)) - np.log(np.maximum(b, 1e-300))), 0).sum(1)
        for a, b in zip(p, q, strict=True)
    )


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("env_class", [MaskedEnv, Telling])
def test_the_teachers_distribution_is_masked_in_all_states(space, env_class, monkeypatch):
    """Those at time limits among them, whose masks are gone when the environment has begun anew."""
    met = {}

    class Noted(env_class):
        def _next(self):
            obs = super()._next()
            met[obs.tobytes()] = self.mask.copy()
            return obs

    model = student(ExpectedEntropyDistillMaskablePPO, masked_envs(space, env_class=Noted), n_epochs=1)
    rewards = []

    def finish(compute, last_values, heard, answer):
        n = model.n_steps * model.n_envs
        states = np.concatenate([heard.tap.observations.batch(0), [obs for _, _, obs in heard.tap.truncated]])
        assert len(states) == n + 2 + len(heard.tap.truncated) and heard.tap.truncated
        masks = np.stack([met[obs.astype(np.float32).tobytes()] for obs in states])
        teacher = expected(space, model.teacher.answer(states).parameters, masks)
        ours = expected(space, answer.parameters, masks)  # masked already: once more changes nothing
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(teacher, ours, strict=True))
        with th.no_grad():
            given = model.policy.get_distribution(th.as_tensor(states))
            net = th.cat(
                [d.logits for d in getattr(given, "distributions", None) or [given.distribution]], dim=1
            ).numpy()
        if isinstance(space, spaces.MultiBinary):
            net = net.reshape(len(net), -1, 2)[..., 1] - net.reshape(len(net), -1, 2)[..., 0]
        losses = kl(expected(space, net, masks), teacher)
        following = losses[2 : n + 2].copy()
        for k, (step, i, _) in enumerate(heard.tap.truncated):
            following[2 * step + i] = losses[n + 2 + k]
        want = -model.gamma * following.reshape(-1, 2) * np.stack(heard.tap.continues)
        compute_rewards(compute, last_values, heard, answer)
        assert np.allclose(rewards[-1], want, atol=1e-5)

    compute_rewards = model._finish_rollout
    monkeypatch.setattr(model, "_finish_rollout", finish)
    original = distillation.injected_reward
    monkeypatch.setattr(distillation, "injected_reward", lambda *a: rewards.append(original(*a)) or rewards[-1])
    model.learn(32)
    assert rewards


def test_where_nobody_tells_a_mask_that_is_said():
    env = masked_envs(kind=partial(SubprocVecEnv, start_method="fork"))
    with pytest.raises(ValueError, match="does not heed it"):
        NDistill("MlpPolicy", env)
    model = student(env=env)
    with pytest.warns(UserWarning, match=r"last states of 2 of 6 episodes .*info\['action_mask'\] = action_masks\(\)"):
        model.learn(32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(32)  # once
        env.close()
        for silent in (student(env=masked_envs(env_class=Telling)), student(OnPolicyDistillMaskablePPO)):
            silent.learn(32)


@pytest.mark.parametrize(
    "wrap",
    [lambda env: VecNormalize(VecMonitor(env)), lambda env: VecFrameStack(env, 2)],
    ids=["normalised", "stacked"],
)
def test_masks_come_through_wrappers(wrap):
    env = wrap(masked_envs())
    student(
        TeacherDistillMaskablePPO, env, teacher=masked_teacher(masked_envs() if isinstance(env, VecNormalize) else env)
    ).learn(64)


def test_an_action_masker_will_do_and_masks_may_be_of_numbers():
    env = DummyVecEnv([lambda: ActionMasker(MaskedEnv(), lambda env: env.unwrapped.mask.astype(float).tolist())])
    student(env=env).learn(32)


def test_every_discrete_teacher_may_teach():
    def first(obs):
        return 0  # which is forbidden in most states

    dqn = sb3_distill.load_teacher(
        lambda obs: obs[:, [0] * 7] * np.arange(7), answers="q_values", batched=True, temperature=1.0
    )
    unmasked = PPO(
        "MlpPolicy", countdown_envs(spaces.Box(-1, 1, (3,)), spaces.Discrete(7)), policy_kwargs=dict(net_arch=[4])
    )
    for teacher in (dqn, unmasked):
        for cls in (TeacherDistillMaskablePPO, NDistillMaskablePPO):
            student(cls, teacher=load_teacher(teacher)).learn(32)
    with pytest.warns(
        UserWarning, match=r"first answers with an action that the environment forbids in \d+ of \d+ states"
    ):
        student(TeacherDistillMaskablePPO, teacher=load_teacher(first)).learn(32)


def broken(problem):
    class Broken(MaskedEnv):
        n_asked = 0

        def action_masks(self):
            Broken.n_asked += 1
            return problem(super().action_masks()) if Broken.n_asked == 6 else super().action_masks()

    return masked_envs(env_class=Broken)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (np.zeros_like, "environment 1 in step 3 of this rollout forbids all 7 actions"),
        (
            lambda mask: mask[:-1],
            r"environment 1 in step 3 of this rollout is of shape \(6,\), and that of Discrete\(7\) has 7 flags",
        ),
        (lambda mask: np.full(7, np.nan), "environment 1 in step 3 of this rollout has nan for action 0: a flag is"),
        (lambda mask: mask + 0.5, "has .*5 for action 0"),
        (lambda mask: [[1], [1, 0]], "is no array of flags"),
        (lambda mask: None, "is no array of flags"),
    ],
)
def test_a_mask_that_is_none_is_said_with_its_place(problem, message):
    with pytest.raises(ValueError, match=message):
        student(env=broken(problem)).learn(32)


def test_a_factor_of_which_all_is_forbidden_is_named():
    class None2(MaskedEnv):
        def action_masks(self):
            return np.array([1, 1, 1, 0, 0, 0, 0], bool)

    with pytest.raises(ValueError, match="forbids all 4 actions in factor 1 of 2"):
        student(env=masked_envs(SPACES[1], env_class=None2)).learn(32)


def test_what_does_not_go_together_is_refused_before_any_work():
    env = countdown_envs(spaces.Box(-1, 1, (3,)), spaces.Discrete(7))
    model = student(env=env)
    with pytest.raises(
        ValueError, match=r"does not say which actions are allowed.*ActionMasker.*take NDistill, engine='ppo'"
    ):
        model.learn(32)
    model.learn(32, use_masking=False)
    box = DummyVecEnv([lambda: CountdownEnv(action_space=spaces.Box(-1, 1, (2,)))])
    with pytest.raises(
        ValueError, match=r"masks Discrete, MultiDiscrete and MultiBinary actions.*take DistillPPO, engine='ppo'"
    ):
        student(DistillMaskablePPO, box, teacher=None)
    with pytest.raises(ValueError, match=r"MultiBinary.*flatten it"):
        student(env=masked_envs(spaces.MultiBinary([2, 2])), teacher=None)
    with pytest.raises(ValueError, match="a policy that can be masked, not ActorCriticPolicy"):
        student(policy=ActorCriticPolicy)


@pytest.mark.parametrize("cls", [NDistill, NDistillA2C])
def test_an_engine_that_heeds_no_masks_names_the_one_that_does(cls):
    with pytest.raises(ValueError, match=r"does not heed it.* Take NDistillMaskablePPO, engine='maskable_ppo'"):
        cls("MlpPolicy", masked_envs())
    with pytest.raises(ValueError, match=r"Take NDistillMaskablePPO, which does not remember, engine='maskable_ppo'"):
        NDistillRecurrentPPO("MlpLstmPolicy", masked_envs())
    plain = cls("MlpPolicy", countdown_envs(spaces.Box(-1, 1, (3,)), spaces.Discrete(7)))
    plain.set_env(masked_envs())
    plain.teacher = masked_teacher(masked_envs())
    with pytest.raises(ValueError, match="does not heed it"):
        plain.learn(32)
    box = DummyVecEnv([lambda: ActionMasker(CountdownEnv(action_space=spaces.Box(-1, 1, (2,))), lambda env: None)])
    cls("MlpPolicy", box)  # there is no mask of such actions
    with pytest.raises(ValueError, match="is a policy of MaskablePPO's: give it to DistillMaskablePPO"):
        cls(MaskablePPO.policy_aliases["MlpPolicy"], countdown_envs())


def test_without_masking_it_takes_any_action():
    class Deaf(MaskedEnv):
        def step(self, action):
            self.mask[:] = True
            return super().step(action)

        def action_masks(self):
            raise AssertionError("nobody asks")

    student(env=masked_envs(env_class=Deaf)).learn(32, use_masking=False)


def test_its_zip_is_maskable_ppos_and_goes_on(tmp_path):
    model = student(EntropyRegularisedMaskablePPO).learn(32)
    model.save(tmp_path / "student")
    plain = MaskablePPO.load(tmp_path / "student", env=masked_envs(), device="cpu").learn(32)
    assert type(plain) is MaskablePPO
    plain.save(tmp_path / "plain")
    teacher = masked_teacher(masked_envs())
    for path in ("student", "plain"):
        again = EntropyRegularisedMaskablePPO.load(tmp_path / path, env=masked_envs(), teacher=teacher, device="cpu")
        again.learn(32, reset_num_timesteps=False)
        again.set_env(masked_envs(n_envs=2, seed=5))
        again.learn(32)
    env = masked_envs()
    obs = env.reset()
    masks = np.stack(env.env_method("action_masks"))
    actions = again.predict(obs, deterministic=True, action_masks=masks)[0]
    assert all(is_allowed(env.action_space, mask, action) for mask, action in zip(masks, actions, strict=True))


def test_reinforcement_goes_on_from_it_under_masks():
    """Its leash compares masked distributions, and nobody takes a forbidden action."""
    made = student(OnPolicyDistillMaskablePPO).learn(32)
    model = made.then_rl(64, n_steps=16, batch_size=16, n_epochs=1, warmup=1)
    assert type(model) is MaskablePPO
    assert 0 <= model.logger.name_to_value["train/leash"] < 10
    with pytest.raises(
        ValueError, match=r"a policy of MaskablePPO's, which PPO cannot go on from: leave algorithm='ppo' out"
    ):
        made.then_rl(64, algorithm="ppo")
    unmasked = NDistill("MlpPolicy", countdown_envs(), n_steps=16, batch_size=16)
    with pytest.raises(ValueError, match="is not masked, which MaskablePPO cannot go on from"):
        unmasked.then_rl(64, algorithm="maskable_ppo")


def test_everybody_plays_what_is_allowed(tmp_path):
    """Teacher, student and random play in the comparison, what is said of their likeness, and a teacher's temperature."""
    model = student(OnPolicyDistillMaskablePPO).learn(32)
    dqn = load_teacher(lambda obs: obs[:, [0] * 7] * np.arange(7), answers="q_values", batched=True, temperature=1.0)
    dqn.meet(model.observation_space, model.action_space)
    for act in (
        Heeding(dqn.act),
        Heeding(model.teacher.act),
        greedy(model.predict),
        random_play(model.action_space, 4),
    ):
        play_episodes(act, lambda n: masked_envs(n_envs=n), 4)
    noisy = made_noisy(dqn, 0.5)
    play_episodes(Heeding(noisy.act), lambda n: masked_envs(n_envs=n), 4)
    for teacher in (dqn, model.teacher, noisy):
        alike = likeness(model, teacher, masked_envs(), 100)
        assert 0 <= alike.agreement <= 1 and 0 <= alike.kl < 50
    assert likeness(model, load_teacher(model), masked_envs(), 100)[1:] == (1.0, None, pytest.approx(0, abs=1e-6))


def test_what_learns_from_a_memory_heeds_no_masks_and_says_so(tmp_path):
    teacher = masked_teacher(masked_envs())
    with pytest.raises(ValueError, match=r"PolicyDistillation does not heed it.*engine='maskable_ppo'"):
        sb3_distill.PolicyDistillation("MlpPolicy", masked_envs(), teacher=teacher)
    with pytest.raises(ValueError, match="a recording does not heed it"):
        record(teacher, masked_envs(), 100, tmp_path / "memory")


def test_masked_students_teach_each_other():
    settings = dict(method="on_policy_distill", loss_coef=0.1, env_reward_coef=1.0, vf_coef=0.5)
    students = [student(DistillMaskablePPO, teacher=None, **settings | {"seed": seed}) for seed in (0, 1)]
    sb3_distill.MutualDistillation(students).learn(64)
