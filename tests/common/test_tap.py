"""Listening to an environment: what is recorded, what is told, and that nothing of it stays behind."""

from contextlib import ExitStack
from copy import deepcopy
from types import MethodType

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize

from envs_for_tests import DICT_SPACE, CountdownEnv
from sb3_distill.common.layers import raw_env
from sb3_distill.common.observations import check_finite, concatenate_obs, copy_obs, same_obs, stack_obs
from sb3_distill.common.questions import is_truncated
from sb3_distill.common.replaced import replaced
from sb3_distill.common.tap import StudentView, Tap

N_ENVS, N_STEPS = 3, 32


class Paying(CountdownEnv):
    """Pays another amount each step, and has an observation space of its own, so that no two environments share one."""

    def __init__(self, observation_space=None):
        super().__init__(deepcopy(observation_space))

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.paid = seed
            self.episode = seed % 3  # time limits in different steps
        return super().reset(seed=seed, options=options)

    def step(self, action):
        obs, _, terminated, truncated, info = super().step(action)
        self.paid += 1
        return obs, self.paid / 8 + int(action), terminated, truncated, info


class Reusing(DummyVecEnv):
    """Writes every step's results into the arrays of the step before, as fast environments do."""

    def step_wait(self):
        obs, rewards, dones, infos = super().step_wait()
        if not hasattr(self, "arrays"):
            self.arrays = copy_obs(obs), np.array(rewards), np.array(dones)
            self.last = {}
        for mine, new in zip(self.arrays, (obs, rewards, dones), strict=True):
            fill(mine, new)
        for i, info in enumerate(infos):
            if "terminal_observation" in info:
                fill(self.last.setdefault(i, copy_obs(info["terminal_observation"])), info["terminal_observation"])
                info["terminal_observation"] = self.last[i]
        return (*self.arrays, infos)


def fill(array, values):
    """Overwrite an array or a dict of arrays."""
    if isinstance(array, dict):
        for key in array:
            array[key][...] = values[key]
    else:
        array[...] = values


def make(space=None, vec_class=DummyVecEnv, n_envs=N_ENVS):
    """Seeded environments; two of them make the same observations."""
    env = vec_class([lambda: Paying(space)] * n_envs)
    env.seed(5)
    return env


def actions(n_envs=N_ENVS):
    """The actions of N_STEPS steps."""
    return np.random.default_rng(0).integers(0, 3, (N_STEPS, n_envs))


def play_alone(space, commands):
    """
    The same environments, one by one and without any vectorised environment.

    :return: observations per step and environment, rewards, continues, and (step, environment, last observation)
    """
    observations = [[None] * N_ENVS for _ in range(N_STEPS + 1)]
    rewards, continues, truncated = np.zeros((N_STEPS, N_ENVS)), np.ones((N_STEPS, N_ENVS)), []
    for i in range(N_ENVS):
        env = Paying(space)
        observations[0][i] = env.reset(seed=5 + i)[0]
        for step in range(N_STEPS):
            obs, rewards[step, i], over, limit, _ = env.step(commands[step, i])
            if over:
                continues[step, i] = 0
            if limit:
                truncated.append((step, i, obs))
            if over or limit:
                obs = env.reset()[0]
            observations[step + 1][i] = obs
    return observations, rewards, continues, sorted(truncated, key=lambda item: item[:2])


def listen(env, raw, obs, commands, scale=0.5, before_step=lambda a: a):
    """Play the commands through a StudentView, with a Tap; what the algorithm saw, the tap and the view."""
    view = StudentView(env, scale)
    tap = Tap(raw, obs, before_step)
    with tap:
        seen = [view.step(command) for command in commands]
    return seen, tap, view


@pytest.mark.parametrize("vec_class", [DummyVecEnv, Reusing])
@pytest.mark.parametrize("space", [None, DICT_SPACE], ids=["box", "dict"])
def test_the_tap_records_what_the_environments_say(space, vec_class):
    """Raw observations and rewards beneath a VecNormalize, terminal ones too, whichever way episodes end."""
    env = VecNormalize(make(space, vec_class), gamma=0.9)
    env.reset()
    raw, normalize = raw_env(env)
    assert (raw, normalize) == (env.venv, env)
    commands = actions()
    seen, tap, view = listen(env, raw, normalize.old_obs, commands)
    observations, rewards, continues, truncated = play_alone(space, commands)
    assert len(tap.observations) == N_STEPS + 1
    for recorded, expected in zip(list(tap.observations), observations, strict=True):
        assert same_obs(recorded, stack_obs(expected))
    np.testing.assert_array_equal(tap.rewards, rewards)
    np.testing.assert_array_equal(tap.continues, continues)
    assert {0.0, 1.0} == set(continues.flatten())
    assert [item[:2] for item in tap.truncated] == [item[:2] for item in truncated]
    assert len({step for step, _, _ in truncated}) > 2  # time limits and terminations do fall into different steps
    for (_, _, recorded), (_, _, expected) in zip(tap.truncated, truncated, strict=True):
        assert same_obs(recorded, expected)
    # What the algorithm got is normalised, in the same steps.
    assert len(view.truncated) == len(tap.truncated)
    for obs, raw_obs in [(seen[-1][0], tap.observations[-1]), (view.truncated[0], tap.truncated[0][2])]:
        assert not same_obs(obs, raw_obs)


@pytest.mark.parametrize("normalized", [True, False])
def test_the_view_keeps_time_limits_as_the_algorithm_sees_them(normalized):
    """Through all wrappers, in the order of the tap's, as copies of what the environment may overwrite."""
    env = make(vec_class=Reusing)
    env = VecNormalize(env) if normalized else env
    obs = env.reset()
    raw, normalize = raw_env(env)
    given, step_wait = [], env.step_wait

    def spy():
        result = step_wait()
        given.extend(copy_obs(info["terminal_observation"]) for info in result[3] if is_truncated(info))
        return result

    with replaced(env, "step_wait", spy):
        _, tap, view = listen(env, raw, normalize.old_obs if normalize else obs, actions())
    assert len(given) == len(tap.truncated) > 2
    assert same_obs(stack_obs(given), stack_obs(view.truncated))
    assert same_obs(stack_obs(given), stack_obs([obs for _, _, obs in tap.truncated])) != normalized


def test_the_view_scales_rewards_into_an_array_of_its_own():
    """SB3 adds bootstrap values to it in place: neither the environment's rewards nor the tap's may change with it."""
    env = make(vec_class=Reusing)
    obs = env.reset()
    for scale in (1.0, 0.25, 0.0):
        view, tap = StudentView(env, scale), Tap(env, obs, lambda a: a)
        with tap:
            obs, rewards, _, _ = view.step(actions()[0])
        own = env.arrays[1].copy()
        assert own.all()
        np.testing.assert_array_equal(rewards, own * np.float32(scale))
        rewards += 100.0
        np.testing.assert_array_equal(env.arrays[1], own)
        np.testing.assert_array_equal(tap.rewards[0], own)


def test_the_view_resets_the_environment():
    """And passes its observations on."""
    assert same_obs(StudentView(make(), 1.0).reset(), make().reset())


def test_the_first_observation_is_a_copy_too():
    """It belongs to the caller, who may go on to write to it."""
    obs = {"a": np.zeros((2, 2), np.float32)}
    tap = Tap(make(), obs, lambda a: a)
    obs["a"] += 1
    assert not tap.observations[0]["a"].any()


def test_before_step_is_told_the_actions_and_chooses_those_that_are_executed():
    """The environment takes the returned ones, and the algorithm's own array stays as it is."""
    env, commands, told = make(), actions(), []

    def before_step(action):
        told.append(action.copy())
        return (action + 1) % 3

    obs, sent = env.reset(), commands.copy()
    _, tap, _ = listen(env, env, obs, sent, before_step=before_step)
    np.testing.assert_array_equal(told, commands)
    np.testing.assert_array_equal(sent, commands)
    np.testing.assert_array_equal(tap.rewards, play_alone(None, (commands + 1) % 3)[1])


# --- nothing stays behind ---------------------------------------------------------------------------------------------


def broken_step_wait():
    raise RuntimeError("the environment broke")


@pytest.mark.parametrize("own", [False, True], ids=["of-its-class", "of-its-own"])
@pytest.mark.parametrize("error", [None, "body", "before_step", "environment", "observation"])
def test_the_environment_is_as_it_was(own, error):
    """Whatever happens in between, and also where the instance already had a step_wait of its own."""
    env = make()
    obs = env.reset()
    if own:
        env.calls = 0

        def step_wait(self):
            self.calls += 1
            return DummyVecEnv.step_wait(self)

        env.step_wait = MethodType(step_wait, env)
    before = dict(vars(env))

    def before_step(action):
        if error == "before_step":
            raise RuntimeError("the teacher broke")
        if error == "environment":
            env.envs[1].step = lambda action: broken_step_wait()
        if error == "observation":
            env.envs[1].step = lambda action: (np.full(3, np.nan, np.float32), 0.0, False, False, {})
        return action

    with ExitStack() as stack:
        if error is not None:
            stack.enter_context(pytest.raises((RuntimeError, ValueError), match=r"broke|not finite"))
        with Tap(env, obs, before_step):
            assert vars(env)["step_wait"] != before.get("step_wait")
            env.step(actions()[0])
            if error == "body":
                raise RuntimeError("the callback broke")
    assert {name: value for name, value in vars(env).items() if name in ("step_wait", "step_async")} == {
        name: value for name, value in before.items() if name in ("step_wait", "step_async")
    }
    if own:
        assert env.calls == (error != "before_step")


def test_a_tap_listens_for_as_long_as_its_context_lasts():
    """Steps before and after are not recorded; several taps in turn each have their own."""
    env = make()
    obs = env.reset()
    taps = []
    for n in (2, 3):
        with Tap(env, obs, lambda a: a) as tap:
            for command in actions()[:n]:
                obs = env.step(command)[0]
        taps.append(tap)
        obs = env.step(actions()[0])[0]
    assert [len(tap.rewards) for tap in taps] == [2, 3]
    assert [len(tap.observations) for tap in taps] == [3, 4]


def test_replaced_brings_back_an_instances_own_method():
    """And leaves the class, and other instances, alone."""

    class Thing:
        def say(self):
            return "class"

    one, other = Thing(), Thing()
    with replaced(one, "say", lambda: "new"):
        assert (one.say(), other.say()) == ("new", "class")
        with replaced(one, "say", lambda: "newer"):
            assert one.say() == "newer"
        assert one.say() == "new"
    assert vars(one) == {}
    assert one.say() == "class"


def test_raw_env_is_beneath_the_lowest_vec_normalize():
    """Wrappers beneath it belong to the environment; without one the whole stack does."""
    base = make()
    stacked = VecFrameStack(VecMonitor(base), 2)
    low = VecNormalize(stacked)
    assert raw_env(base) == (base, None)
    assert raw_env(stacked) == (stacked, None)
    assert raw_env(low) == (stacked, low)
    assert raw_env(VecMonitor(VecNormalize(low))) == (stacked, low)


# --- observations that no network can read ----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("space", [None, DICT_SPACE], ids=["box", "dict"])
@pytest.mark.parametrize("index", range(N_ENVS))
def test_an_observation_that_is_not_finite_names_its_environment_and_step(space, bad, index):
    """Where to look is in the message: the key of a dict too."""
    env = make(space)
    obs = env.reset()
    step = env.envs[index].step

    def breaks_in_the_third(action):
        obs, *rest = step(action)
        if env.envs[index].step_count == 3:
            (obs["b"] if space else obs)[1] = bad
        return obs, *rest

    env.envs[index].step = breaks_in_the_third
    key = " 'b'" if space else ""
    with Tap(env, obs, lambda a: a) as tap:
        env.step(actions()[0])
        env.step(actions()[1])
        with pytest.raises(
            ValueError, match=f"^The observation{key} of environment {index} after step 3 of this roll.*{bad}"
        ):
            env.step(actions()[2])
    assert len(tap.rewards) == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_first_observation_must_be_finite_too(bad):
    """Before anything is played."""
    obs = np.zeros((2, 3), np.float32)
    obs[1, 2] = bad
    with pytest.raises(ValueError, match="environment 1 at the start of this rollout is not finite"):
        Tap(make(), obs, lambda a: a)


@pytest.mark.parametrize("space", [None, DICT_SPACE], ids=["box", "dict"])
def test_the_state_at_which_a_time_limit_cuts_must_be_finite(space):
    """It is where values are bootstrapped, and no later step shows it."""
    env = make(space, n_envs=2)
    obs = env.reset()
    inner = env.envs[1]
    step = inner.step

    def breaks_at_the_limit(action):
        obs, reward, terminated, truncated, info = step(action)
        if truncated:
            (obs["b"] if space else obs)[0] = np.nan
        return obs, reward, terminated, truncated, info

    inner.step = breaks_at_the_limit
    (limit, *_) = (t for t, i, _ in play_alone(space, np.zeros((N_STEPS, N_ENVS), int))[3] if i == 1)
    with Tap(env, obs, lambda a: a) as tap:
        for _ in range(limit):
            env.step(np.zeros(2, int))
        with pytest.raises(ValueError, match=rf"environment 1 after step {limit + 1} of this rollout is not finite"):
            env.step(np.zeros(2, int))
    assert len(tap.truncated) == sum(t < limit for t, i, _ in tap.truncated)


def test_integers_are_finite():
    """Images and numbers of states are not searched."""
    for dtype in (np.uint8, np.int64, np.bool_):
        check_finite(np.ones((2, 3), dtype), "")
    check_finite({"image": np.full((2, 4), 255, np.uint8), "x": np.zeros((2, 1), np.float32)}, "")
    with pytest.raises(ValueError, match="environment 0"):
        check_finite(np.full((2, 3), np.nan, np.float64), "")


# --- batches ----------------------------------------------------------------------------------------------------------


def test_batches_of_arrays_and_of_dicts():
    """Stacking states, joining batches and comparing them to the bit."""
    a, b = np.arange(6.0).reshape(2, 3), np.arange(3.0).reshape(1, 3)
    np.testing.assert_array_equal(stack_obs([a[0], a[1]]), a)
    np.testing.assert_array_equal(concatenate_obs([a, b]), np.concatenate([a, b]))
    da, db = {"x": a, "y": a + 1}, {"x": b, "y": b + 1}
    stacked = stack_obs([{"x": a[0], "y": a[0] + 1}, {"x": a[1], "y": a[1] + 1}])
    assert same_obs(stacked, da)
    joined = concatenate_obs([da, db])
    assert {key: value.shape for key, value in joined.items()} == {"x": (3, 3), "y": (3, 3)}
    np.testing.assert_array_equal(joined["y"][2], b[0] + 1)
    assert same_obs(a, a.copy())
    assert not same_obs(a, np.nextafter(a, 9))
    assert not same_obs(a, b)
    assert not same_obs(da, {"x": a, "y": a})
    assert not same_obs(da, a)
    assert not same_obs(a, da)


@pytest.mark.parametrize(
    "info, expected",
    [
        ({}, False),
        ({"TimeLimit.truncated": False, "terminal_observation": np.zeros(1)}, False),
        ({"TimeLimit.truncated": True, "terminal_observation": np.zeros(1)}, True),
        ({"TimeLimit.truncated": True}, False),
        ({"TimeLimit.truncated": True, "terminal_observation": None}, False),
    ],
)
def test_a_time_limit_needs_the_state_at_which_it_cut(info, expected):
    """Without it there is nothing to bootstrap from, as SB3 sees it."""
    assert is_truncated(info) is expected
