"""The paper's environments: their arrays, and that what is sampled is what the arrays say."""

import doctest
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from sb3_distill.envs import (
    Corridor,
    ForkedRoad,
    GridWorld,
    Oscillation,
    corridor,
    forked_road,
    grid_world,
    oscillation,
)
from sb3_distill.envs.corridor import corridor_teacher
from sb3_distill.envs.grid_world import CELLS, EMPTY, KINDS, WALL, grid_mdp, random_cells, windows
from sb3_distill.envs.oscillation import oscillation_policy, oscillation_teacher

LEFT, RIGHT, UP, DOWN = range(4)
IDS = {
    "sb3_distill/GridWorld-v0": [
        {},
        {"window": 5},
        {"n_actions": 1000, "size": 6},
        {"world_seed": 3, "probabilities": {"wall": 0.3}},
    ],
    "sb3_distill/Corridor-v0": [{}, {"length": 4}],
    "sb3_distill/ForkedRoad-v0": [{}, {"length": 0, "forks": 3, "cue": True}],
    "sb3_distill/Oscillation-v0": [{}],
}
CASES = [pytest.param(env_id, kwargs, id=f"{env_id}-{kwargs}") for env_id, many in IDS.items() for kwargs in many]
#: every kind of cell, likely, and every step uncertain
DENSE = {"wall": 0.15, "goal": 0.1, "prize": 0.1, "pit": 0.1, "bonus": 0.1, "malus": 0.1}
SMALL = {
    "grid": lambda: GridWorld(size=4, world_seed=1, noise=0.4, fall=0.2, probabilities=DENSE),
    "grid-6-actions": lambda: GridWorld(size=3, world_seed=2, n_actions=6, noise=0.5, fall=0.3, probabilities=DENSE),
    "corridor": lambda: Corridor(length=5),
    "oscillation": Oscillation,
}


def kinds_of(*rows):
    """A world from its text."""
    glyphs = [cell.glyph for cell in CELLS.values()]
    return np.array([[glyphs.index(glyph) for glyph in row] for row in rows], np.int8)


@pytest.fixture
def no_screen(monkeypatch):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


# --- Gymnasium and SB3 ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("env_id", "kwargs"), CASES)
def test_both_env_checkers_pass_without_a_warning(env_id, kwargs, no_screen):
    """Rendering in every mode included."""
    env = gym.make(env_id, disable_env_checker=True, **kwargs).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*pkg_resources.*")
        gymnasium_check_env(env)
        sb3_check_env(env)


def test_they_are_registered_with_the_modules_name_too():
    """What a script needs that does not import the package, and that corridors have a time limit."""
    env = gym.make("sb3_distill.envs:sb3_distill/Corridor-v0", length=1001)
    assert env.spec.max_episode_steps == 200
    env.reset(seed=0)
    ends = [env.step(RIGHT)[2:4] for _ in range(200)]
    assert ends == [(False, False)] * (len(ends) - 1) + [(False, True)]


def test_sb3_trains_on_windows():
    """It one-hot encodes them by itself: 3 · 3 cells of as many kinds as there are."""
    model = PPO("MlpPolicy", GridWorld(size=5, window=3), n_steps=32, batch_size=32, n_epochs=1).learn(32)
    assert model.policy.features_extractor.features_dim == 9 * len(KINDS)


@pytest.mark.parametrize("module", [grid_world, corridor, forked_road, oscillation])
def test_doctests_run(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("action", [-1, 4, 1.5, None])
def test_an_action_that_there_is_not_is_an_error(action):
    env = GridWorld(size=3)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"not in Discrete\(4\)"):
        env.step(action)


# --- arrays and samples -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_sampled_frequencies_are_the_arrays(name):
    """Every transition, ending and reward from every state within 4 standard errors, and all of them together."""
    env, n = SMALL[name](), 400
    env.reset(seed=0)
    dense = env.mdp.dense()
    assert dense.transition.shape == (env.mdp.n_states, env.mdp.n_actions, env.mdp.n_states)
    chi2, degrees = 0.0, 0
    for state in np.flatnonzero(~env.mdp.terminal):
        for action in range(env.mdp.n_actions):
            counts, rewards = np.zeros(env.mdp.n_states + 1), np.zeros(n)
            for i in range(n):
                env.state = int(state)
                obs, rewards[i], terminated, truncated, _ = env.step(action)
                assert not truncated
                counts[-1 if terminated else obs] += 1
            p = np.append(dense.transition[state, action], dense.end[state, action])
            sure = (p < 1e-9) | (p > 1 - 1e-9)
            assert np.array_equal(counts[sure], n * np.round(p[sure]))
            error = np.abs(counts - n * p)[~sure]
            assert np.all(error < 4 * np.sqrt(n * p * (1 - p))[~sure])
            assert abs(rewards.mean() - dense.reward[state, action]) <= 4 * rewards.std() / np.sqrt(n) + 1e-12
            chi2 += (error**2 / (n * p[~sure])).sum()
            degrees += max((~sure).sum() - 1, 0)
    assert abs(chi2 - degrees) <= 4 * np.sqrt(2 * degrees)


@pytest.mark.parametrize("name", SMALL)
def test_arrays_are_probabilities(name):
    """Rows of transition and end sum to 1, nothing starts at a terminal state or goes on from there."""
    mdp = SMALL[name]().mdp
    dense = mdp.dense()
    assert dense.transition.min() >= 0 and dense.end.min() >= 0
    assert np.allclose(dense.transition.sum(-1) + dense.end, 1, rtol=0, atol=1e-12)
    assert np.allclose(mdp.moves.sum(-1), 1) and mdp.start.sum() == 1
    assert np.all(dense.end[mdp.terminal] == 1) and np.all(dense.reward[mdp.terminal] == 0)
    assert not mdp.start[mdp.terminal].any() and not dense.transition[..., mdp.terminal].any()


@pytest.mark.parametrize("name", SMALL)
def test_chain_and_backup_are_those_of_the_dense_arrays(name):
    """The short cuts through moves, against sums over states and actions; many policies for one MDP."""
    mdp, rng = SMALL[name]().mdp, np.random.default_rng(0)
    dense, policy = mdp.dense(), rng.dirichlet(np.ones(mdp.n_actions), size=(3, mdp.n_states))
    chain, reward = mdp.chain(policy)
    assert np.allclose(chain, np.einsum("psa,sat->pst", policy, dense.transition), rtol=0, atol=1e-14)
    assert np.allclose(reward, (policy * dense.reward).sum(-1), rtol=0, atol=1e-14)
    value = rng.normal(size=(3, mdp.n_states))
    q = dense.reward + 0.9 * np.einsum("sat,pt->psa", dense.transition, value)
    assert np.allclose(mdp.backup(value, 0.9), q, rtol=0, atol=1e-14)


def test_many_worlds_side_by_side_are_each_one():
    kinds = np.stack([random_cells(seed, 5, DENSE) for seed in range(4)])
    many, rng = grid_mdp(kinds), np.random.default_rng(0)
    value, policy = rng.normal(size=(4, 25)), rng.dirichlet(np.ones(4), size=25)
    for i in range(4):
        one = grid_mdp(kinds[i])
        for field in ("following", "reward", "terminal", "start", "moves", "fall"):
            assert np.array_equal(getattr(many[i], field), getattr(one, field))
        assert np.array_equal(many.dense().transition[i], one.dense().transition)
        assert np.array_equal(many.chain(policy)[0][i], one.chain(policy)[0])
        assert np.allclose(many.backup(value, 0.9)[i], one.backup(value[i], 0.9))


# --- grid worlds ------------------------------------------------------------------------------------------------------


def test_the_world_is_that_of_its_seed():
    """And not that of reset's seed."""
    a, b, other = GridWorld(world_seed=5), GridWorld(world_seed=5), GridWorld(world_seed=6)
    assert np.array_equal(a.kinds, b.kinds) and not np.array_equal(a.kinds, other.kinds)
    a.reset(seed=1), b.reset(seed=2)
    assert np.array_equal(a.kinds, b.kinds)
    assert random_cells(5, 20).sum() == 130, "the worlds of seeds have changed: published figures are no longer theirs"


def test_cells_are_as_frequent_as_their_probabilities():
    kinds = np.stack([random_cells(seed) for seed in range(300)])
    n = kinds.size - len(kinds)
    for kind, (name, cell) in enumerate(CELLS.items()):
        p = cell.probability if kind != EMPTY else 1 - sum(c.probability for c in CELLS.values())
        count = (kinds == kind).sum() - (len(kinds) if kind == EMPTY else 0)  # the start is always empty
        assert abs(count - n * p) < 4 * np.sqrt(n * p * (1 - p)), name
    assert (kinds[:, 10, 10] == EMPTY).all()


def test_a_move_by_hand():
    """Walls and borders stop, rewards are paid on entering and not on staying, terminal cells end the episode."""
    mdp = grid_mdp(kinds_of("+#.", "G.-", "..."), noise=0.0, fall=0.01)
    assert mdp.following[4].tolist() == [3, 5, 4, 7]  # left to the goal, right, up into the wall, down
    assert mdp.reward[4].tolist() == [10.0, -0.1, 0.0, 0.0]
    assert mdp.following[0].tolist() == [0, 0, 0, 3] and mdp.reward[0].tolist() == [0.0, 0.0, 0.0, 10.0]
    assert mdp.following[8].tolist() == [7, 8, 5, 8]
    assert mdp.terminal.tolist() == [False, True, False, True] + [False] * 5  # the wall, the goal
    dense = mdp.dense()
    assert dense.end[4].tolist() == pytest.approx([1.0, 0.01, 0.01, 0.01])
    assert dense.transition[4, RIGHT, 5] == pytest.approx(0.99)
    assert mdp.start.argmax() == 4


def test_noise_makes_the_executed_move_uniform():
    """With η = 0.1 a move is the intended one with probability 0.9 + 0.1 / 4."""
    moves = grid_mdp(random_cells(0), noise=0.1).moves
    assert np.allclose(moves, 0.9 * np.eye(4) + 0.1 / 4)


def test_a_thousand_actions_are_four_moves():
    """Action k moves as k mod 4, in arrays that are as small as with four actions."""
    four, thousand = GridWorld(world_seed=7), GridWorld(world_seed=7, n_actions=1000)
    assert thousand.action_space.n == 1000 and thousand.mdp.following.shape == (400, 4)
    assert np.array_equal(thousand.mdp.moves, np.tile(four.mdp.moves, (250, 1)))
    value = np.random.default_rng(0).normal(size=400)
    assert np.allclose(thousand.mdp.backup(value, 0.9), np.tile(four.mdp.backup(value, 0.9), 250))
    for env in (four, thousand):
        env.reset(seed=0)
    assert [four.step(k % 4)[:3] for k in range(17)] == [thousand.step(k + 500)[:3] for k in range(17)]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"n_actions": 3},
        {"n_actions": 1001},
        {"noise": 1.5},
        {"fall": -0.1},
        {"window": 4},
        {"size": 1},
        {"probabilities": {"wall": 0.99}},
        {"probabilities": {"empty": 0.5}},
        {"rewards": {"gaol": 5.0}},
        {"render_mode": "text"},
    ],
)
def test_arguments_that_make_no_world_are_errors(kwargs):
    with pytest.raises(ValueError):
        GridWorld(**kwargs)


def test_rewards_are_arguments():
    env = GridWorld(size=8, world_seed=1, probabilities=DENSE, rewards={"goal": 3.0, "malus": -7.0})
    there = env.kinds.flat[env.mdp.following]
    moved = env.mdp.following != np.arange(64)[:, None]
    for name, reward in (("goal", 3.0), ("malus", -7.0), ("pit", -1.0)):
        entered = moved & (there == KINDS.index(name))
        assert entered.any() and np.all(env.mdp.reward[entered] == reward)


def test_a_window_shows_walls_beyond_the_borders():
    kinds = kinds_of("+#.", "G.-", "..x")
    seen = windows(kinds, 3).reshape(9, 3, 3)
    assert np.array_equal(seen[0], kinds_of("###", "#+#", "#G."))
    assert np.array_equal(seen[4], kinds)
    assert np.array_equal(seen[8], kinds_of(".-#", ".x#", "###"))
    assert np.array_equal(windows(kinds, 1)[:, 0], kinds.flat)
    wide = windows(kinds, 7).reshape(9, 7, 7)
    assert np.array_equal(wide[0][3:6, 3:6], kinds) and (wide[0][:3] == WALL).all() and (wide[0][6:] == WALL).all()
    assert np.array_equal(windows(np.stack([kinds, kinds.T]), 3)[1], windows(kinds.T, 3))


def test_the_environment_shows_the_window_of_its_state():
    env = GridWorld(size=5, world_seed=1, window=3, probabilities=DENSE, fall=0.0)
    obs, _ = env.reset(seed=0)
    for action in [LEFT, UP, RIGHT, RIGHT, DOWN, LEFT]:
        assert env.observation_space.contains(obs) and np.array_equal(obs, windows(env.kinds, 3)[env.state])
        obs[:] = 0  # a copy: nothing comes of it
        obs = env.step(action)[0]


def test_every_episode_ends():
    """By falling, after 100 steps on average where nothing else ends it."""
    env = GridWorld(probabilities=dict.fromkeys(KINDS[1:], 0.0))
    env.reset(seed=0)
    n, steps = 100, 0
    for _ in range(n):
        env.reset()
        terminated = False
        while not terminated:
            terminated, steps = env.step(RIGHT)[2], steps + 1
    assert abs(steps / n - 100) < 4 * 100 / np.sqrt(n)


# --- the other two ----------------------------------------------------------------------------------------------------


def test_corridor_teachers_walk_to_the_reward_and_to_the_penalty():
    env = Corridor(length=5, reward=2.0, penalty=-3.0)
    for kind, action, end, reward in (("optimal", RIGHT, 4, 2.0), ("adversarial", LEFT, 0, -3.0)):
        policy = env.teacher(kind, mistakes=0.1)
        assert policy.shape == (5, 2) and np.allclose(policy.sum(-1), 1) and np.all(policy.argmax(-1) == action)
        obs, _ = env.reset(seed=0)
        assert obs == 2
        assert env.step(action)[1:3] == (0.0, False)
        assert env.step(action)[:3] == (end, reward, True)
    assert np.array_equal(corridor_teacher("optimal")[:, ::-1], corridor_teacher("adversarial"))
    with pytest.raises(ValueError, match="Unknown teacher"):
        env.teacher("lazy")
    with pytest.raises(ValueError, match="at least 3"):
        Corridor(length=2)


def test_the_forked_road_shows_the_student_no_more_than_where_it_is():
    """Every episode of both bits, step by step: what is seen is the same, what the teacher sees and what a door pays is not."""
    env = ForkedRoad(length=1, forks=2, detour=0.25, wrong=-3.0)
    for bit in (0, 1):
        for door in (0, 1):
            env.reset(seed=0)
            env.state = 4 * bit
            seen, states, paid = [], [], []
            for action in (0, 1, door, door):
                obs, reward, done, truncated, _ = env.step(action)
                assert not truncated
                seen.append(obs["seen"])
                states.append(obs["state"])
                paid.append(reward)
            assert done and seen == [1, 2, 3, 4] and states == [4 * bit + k for k in (1, 2, 3)] + [8]
            assert paid == [0.0, 0.0, *[0.5 if door == bit else -1.5] * 2]
        env.reset(seed=0)
        env.state = 4 * bit
        assert env.step(1)[1:3] == (0.25, True)
    starts = {int(env.reset(seed=k)[0]["state"]) for k in range(20)}
    assert starts == {0, 4} and {int(env.reset(seed=k)[0]["seen"]) for k in range(20)} == {0}
    cued = ForkedRoad(length=1, forks=2, cue=True)
    assert {tuple(map(int, cued.reset(seed=k)[0].values())) for k in range(20)} == {(0, 0), (5, 4)}
    assert np.array_equal(cued.seen[[1, 2, 3]], cued.seen[[5, 6, 7]])  # at the start alone


def test_the_teacher_of_the_forked_road_goes_through_the_right_door():
    policy = ForkedRoad(length=1, forks=2).teacher(0.2)
    assert np.allclose(policy[[0, 4], 1], 1 / (1 + np.exp(0.5 / 0.2)))
    assert np.allclose(policy[[2, 3], 0], 1 / (1 + np.exp(-1 / 0.2))) and np.allclose(policy[2:4], policy[6:8, ::-1])
    for argument in ({"length": -1}, {"forks": 0}, {"length": 1.5}, {"wrong": 1.0}, {"wrong": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(argument))):
            ForkedRoad(**argument)
    with pytest.raises(ValueError, match="temperature"):
        ForkedRoad().teacher(0.0)


def test_the_oscillation_is_a_tree_of_seven_states():
    """Three steps, each paying 4 π(a|s); the students of states 1 and 2 share a parameter, the others the other."""
    env, teacher = Oscillation(), oscillation_teacher()
    assert env.observation_space.n == 7
    for first in (0, 1):
        for second in (0, 1):
            obs, _ = env.reset(seed=0)
            seen, done = [obs], False
            for action in (first, second, 1):
                assert not done
                obs, reward, done, _, _ = env.step(action)
                assert reward == 4 * teacher[seen[-1], action]
                seen.append(obs)
            assert done and seen[:3] == [0, 1 + first, 3 + 2 * first + second]
    policy = oscillation_policy(np.array([0.3, -0.7]))
    x, y = 1 / (1 + np.exp(-0.3)), 1 / (1 + np.exp(0.7))
    assert np.allclose(policy[:, 1], [x, y, y, x, x, x, x]) and np.allclose(policy.sum(-1), 1)


# --- rendering --------------------------------------------------------------------------------------------------------


def test_text_shows_the_agent_among_the_cells():
    env = GridWorld(size=4, world_seed=1, render_mode="ansi", probabilities=DENSE)
    env.reset(seed=0)
    rows = [row.split(" ") for row in env.render().split("\n")]
    cells = [[CELLS[KINDS[kind]].glyph for kind in row] for row in env.kinds]
    assert [row.split(" ") for row in env.look.text().split("\n")] == cells
    cells[2][2] = "@"
    assert rows == cells
    env = Oscillation(render_mode="ansi")
    env.reset(seed=0)
    env.step(1)
    assert env.render() == "      0      \n  1       @  \n3   4   5   6"


@pytest.mark.parametrize("name", SMALL)
def test_pictures_show_cells_in_their_colors_and_the_agent_as_a_disc(name):
    env = SMALL[name]()
    env.render_mode = "rgb_array"
    env.reset(seed=0)
    picture = env.render()
    rows, columns = env.look.places.max(axis=0) + 1
    assert picture.shape == (16 * rows, 16 * columns, 3) and picture.dtype == np.uint8
    for state, (row, column) in enumerate(env.look.places):
        assert np.array_equal(picture[16 * row + 1, 16 * column + 1], env.look.colors[state])
        middle = picture[16 * row + 7, 16 * column + 7]
        assert np.array_equal(middle, (0, 0, 0) if state == env.state else env.look.colors[state])


def test_a_window_on_the_screen(no_screen, monkeypatch):
    """It opens at reset, is drawn at each step, and closes; without pygame the error says what to install."""
    import pygame

    env = Corridor(render_mode="human")
    env.reset(seed=0)
    env.step(RIGHT)
    assert env.render() is None
    drawn = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    assert np.array_equal(drawn, env.look.picture(6, cell=24))
    env.close()
    assert not pygame.display.get_init()
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(DependencyNotInstalled, match="pip install"):
        Corridor(render_mode="human").reset(seed=0)


def test_rendering_without_a_mode_warns():
    with pytest.warns(UserWarning, match="render_mode"):
        assert Corridor().render() is None
