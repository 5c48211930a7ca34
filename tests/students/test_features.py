"""MinAtarCNN is the paper's network, in any size, and travels in SB3's zips and through the loader's closed list."""

import base64
import io
import json
import pickle
import time
import zipfile

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.ppo.policies import CnnPolicy

import sb3_distill.envs  # noqa: F401 - registers the environments
from envs_for_tests import CountdownEnv
from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.load import load_teacher
from sb3_distill.agents.saved_policy import read_policy_kwargs
from sb3_distill.students.features import MinAtarCNN, min_atar_student
from sb3_distill.teachers.teacher import actor_size

SPACE = spaces.Box(0, 1, (4, 10, 10), np.uint8)
KWARGS = {"features_extractor_class": MinAtarCNN, "net_arch": []}


def small(**kwargs):
    return KWARGS | {"features_extractor_kwargs": kwargs}


def draw(space, n=16):
    space.seed(0)
    return np.stack([space.sample() for _ in range(n)])


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 10, 10), (1, 5, 5), (2, 5, 7)])
@pytest.mark.parametrize("filters", [(3,), (3, 2)])
def test_forward_is_convolutions_and_a_layer(shape, filters):
    """By loops over cells, in double precision."""
    th.manual_seed(0)
    space = spaces.Box(0, 1, shape, np.uint8)
    extractor = MinAtarCNN(space, features_dim=5, filters=filters)
    maps = draw(space, 2).astype(np.float64)
    *convolutions, dense, dense_bias = (p.detach().double().numpy() for p in extractor.parameters())
    for weight, bias in zip(convolutions[::2], convolutions[1::2], strict=True):
        height, width = maps.shape[2] - 2, maps.shape[3] - 2
        below, maps = maps, np.zeros((2, len(bias), height, width))
        for y in range(height):
            for x in range(width):
                maps[:, :, y, x] = np.einsum("ncij,fcij->nf", below[:, :, y : y + 3, x : x + 3], weight) + bias
        assert (maps < 0).any() and (maps > 0).any()
        maps = np.maximum(maps, 0)
    expected = np.maximum(maps.reshape(2, -1) @ dense.T + dense_bias, 0)
    assert expected.any()
    obs = th.as_tensor(draw(space, 2)).float()
    np.testing.assert_allclose(extractor(obs).detach().numpy(), expected, atol=1e-5)


def size(channels, n_actions, **kwargs):
    space = spaces.Box(0, 1, (channels, 10, 10), np.uint8)
    return actor_size(DQNPolicy(space, spaces.Discrete(n_actions), lambda _: 0.0, **small(**kwargs)))


def test_the_papers_size():
    """16 filters and 128 units, on Breakout."""
    assert size(4, 3) == (4 * 9 * 16 + 16) + (16 * 8 * 8 * 128 + 128) + (128 * 3 + 3) == 132_179


@pytest.mark.parametrize(("channels", "n_actions"), [(4, 5), (4, 3), (7, 3), (10, 6), (6, 4)])
def test_students_in_every_game(channels, n_actions):
    """As large as they may be, within half a percent of the network."""
    for part, share in ((1.0, "100%"), (0.25, "25%"), (0.07, "7%"), (0.04, "4%")):
        kwargs = min_atar_student(share)["features_extractor_kwargs"]
        left = size(channels, n_actions, **kwargs) / size(channels, n_actions)
        assert part - 0.006 < left <= part
    with pytest.raises(ValueError, match=r"There is no student of '5%'"):
        min_atar_student("5%")


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 1, (100,), np.uint8),
        spaces.Box(0, 1, (4, 2, 10), np.uint8),
        spaces.Box(0, 1, (4, 10, 2), np.uint8),
        spaces.MultiBinary((4, 10, 10)),
        spaces.Discrete(4),
    ],
)
def test_other_observations_are_refused(space):
    with pytest.raises(
        ValueError, match=r"^MinAtarCNN reads a Box of channels × height × width .* at least 3, not \w+\("
    ):
        MinAtarCNN(space)


def test_every_convolution_takes_an_edge():
    MinAtarCNN(spaces.Box(0, 1, (4, 5, 5), np.uint8), filters=(8, 8))
    with pytest.raises(ValueError, match="height and width of at least 5, not Box"):
        MinAtarCNN(spaces.Box(0, 1, (4, 4, 10), np.uint8), filters=(8, 8))


# --- with SB3 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy"])
@pytest.mark.parametrize("algorithm", [DQN, PPO, A2C])
def test_sb3_trains_saves_and_loads_it(tmp_path, algorithm, policy):
    """And our loader makes the same network of the zip."""
    options = {DQN: {"learning_starts": 8, "buffer_size": 64}, PPO: {"n_steps": 16, "batch_size": 16}, A2C: {}}[
        algorithm
    ]
    kwargs = small(filters=(3,), features_dim=7)
    model = algorithm(policy, "MinAtar/Breakout-v1", device="cpu", seed=0, policy_kwargs=kwargs, **options)
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(32)
    assert any(not th.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))
    model.save(tmp_path / "model")
    obs = draw(model.observation_space)
    loaded = algorithm.load(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(loaded.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0])
    mine, theirs = (load_teacher(t, device="cpu", **softness(algorithm)) for t in (tmp_path / "model.zip", model))
    for a, b in zip(mine.answer(obs, True), theirs.answer(obs, True), strict=True):
        assert th.equal(a, b)


def softness(algorithm):
    return {"temperature": 1.0} if algorithm is DQN else {}


def test_bytes_are_divided_by_255_where_sb3_would():
    """The extractor itself divides nothing."""
    space = spaces.Box(0, 255, (4, 10, 10), np.uint8)
    policy = CnnPolicy(space, spaces.Discrete(3), lambda _: 0.0, **KWARGS)
    obs = th.full((1, 4, 10, 10), 255, dtype=th.uint8)
    seen = []
    policy.features_extractor.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    policy.extract_features(obs)
    assert seen[0].unique().tolist() == [1.0]


# --- through the closed list ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["<class 'sb3_distill.features.MinAtarCNN'>", "MinAtarCNN"])
def test_it_is_on_the_list(name):
    """As SB3 writes it beside its pickle, and as one types it in a hyperparameter file."""
    given = {"features_extractor_class": name, "features_extractor_kwargs": "{'filters': (8,), 'features_dim': 64}"}
    assert read_policy_kwargs(given) == {
        "features_extractor_class": MinAtarCNN,
        "features_extractor_kwargs": {"filters": [8], "features_dim": 64},
    }


@pytest.mark.parametrize(
    ("kwarg", "value"),
    [
        *(("filters", value) for value in (8, "8", None, [0], [-1], [True], [2.0], [None], [1 << 21], [10**30])),
        ("features_dim", 0),
        ("features_dim", 1 << 21),
        ("kernel_size", 3),
        ("observation_space", 3),
    ],
)
def test_what_is_not_a_size_is_refused(kwarg, value):
    with pytest.raises(ValueError, match=r"features_extractor_kwargs=.* not among the values known here"):
        read_policy_kwargs({"features_extractor_class": "MinAtarCNN", "features_extractor_kwargs": {kwarg: value}})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Members of a zip with the network in it, and observations."""
    path = tmp_path_factory.mktemp("dqn") / "dqn.zip"
    model = DQN(
        "CnnPolicy", "MinAtar/Breakout-v1", buffer_size=2, device="cpu", seed=0, policy_kwargs=small(filters=(3,))
    )
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path, members, **kwargs):
    """A zip whose policy_kwargs say something else, in text and, as a file of others' would, in the pickle."""
    data = json.loads(members["data"])
    field = data["policy_kwargs"]
    field.update({name: value if isinstance(value, (dict, list)) else str(value) for name, value in kwargs.items()})
    field[":serialized:"] = base64.b64encode(pickle.dumps(kwargs)).decode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"data": json.dumps(data).encode()}).items():
            archive.writestr(name, content)
    return path


def load(path):
    return load_teacher(path, temperature=1.0, device="cpu")


def test_an_untouched_zip_loads(tmp_path, saved):
    """Control of the tests below."""
    assert load(written(tmp_path / "m.zip", saved)).n_parameters == (4 * 9 * 3 + 3) + (3 * 64 * 128 + 128) + 3 * 129


HUGE = 1 << 20
WRONG = {
    "more filters": {"features_extractor_kwargs": {"filters": (4,)}},
    "fewer filters": {"features_extractor_kwargs": {"filters": (2,)}},
    "the default": {"features_extractor_kwargs": {}},
    "more units": {"features_extractor_kwargs": {"filters": (3,), "features_dim": 129}},
    "huge": {"features_extractor_kwargs": {"filters": (HUGE,), "features_dim": HUGE}},
    "huge, with layers": {
        "features_extractor_kwargs": {"filters": (HUGE,), "features_dim": HUGE},
        "net_arch": [HUGE] * 64,
    },
    "layers that are not there": {"features_extractor_kwargs": {"filters": (3,)}, "net_arch": [64]},
    "another extractor": {"features_extractor_class": "FlattenExtractor"},
    "another extractor's option": {
        "features_extractor_class": "NatureCNN",
        "features_extractor_kwargs": {"filters": (3,)},
    },
    "an option of another": {"features_extractor_kwargs": {"filters": (3,), "normalized_image": True}},
}


@pytest.mark.parametrize("change", WRONG)
def test_sizes_that_the_weights_do_not_have(tmp_path, saved, change):
    """Named as such in a moment, and without the memory that they would take: 2^46 numbers in the largest."""
    path = written(tmp_path / "m.zip", saved, **WRONG[change])
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match=r"m\.zip has weights that do not fit the network it describes: \S"):
        load(path)
    assert time.perf_counter() - start < 5


def test_a_huge_observation_costs_nothing(tmp_path, saved):
    """2^22 cells, 2^20 filters and 2^20 units make a matrix of 2^62 numbers, which has no size in bytes."""
    data = json.loads(saved["data"])
    space = data["observation_space"]
    space.update({"_shape": [4, 1024, 1024], "low": "0", "high": "1"})
    members = saved | {"data": json.dumps(data).encode()}
    path = written(tmp_path / "m.zip", members, features_extractor_kwargs={"filters": (HUGE,), "features_dim": HUGE})
    with pytest.raises(CheckpointError, match="do not fit the network it describes"):
        load(path)


def test_observations_that_it_cannot_read(tmp_path, saved):
    data = json.loads(saved["data"])
    data["observation_space"].update({"_shape": [400], "low": "0", "high": "1"})
    path = written(tmp_path / "m.zip", saved | {"data": json.dumps(data).encode()})
    with pytest.raises(CheckpointError, match="do not fit the network it describes: MinAtarCNN reads a Box"):
        load(path)


# --- without a target network -----------------------------------------------------------------------------------------


def torch_file(weights):
    buffer = io.BytesIO()
    th.save(weights, buffer)
    return buffer.getvalue()


def weights_of(members):
    return th.load(io.BytesIO(members["policy.pth"]), weights_only=True)


def only(members, weights):
    """A zip's members with these weights, and no optimiser."""
    kept = {
        name: content
        for name, content in members.items()
        if name not in ("policy.optimizer.pth", "pytorch_variables.pth")
    }
    return kept | {"policy.pth": torch_file(weights)}


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_weights_that_play_are_enough(tmp_path, saved):
    """Neither the target network nor the optimiser is needed, and what is answered is the same."""
    weights = weights_of(saved)
    playing = {name: value for name, value in weights.items() if name.startswith("q_net.")}
    assert len(playing) == len(weights) / 2
    mine, theirs = load(zipped(tmp_path / "m.zip", only(saved, playing))), load(zipped(tmp_path / "w.zip", saved))
    obs = draw(SPACE)
    assert th.equal(mine.q_values(obs), theirs.q_values(obs))
    assert mine.q_values(obs).std() > 0
    assert (tmp_path / "m.zip").stat().st_size < 0.6 * (tmp_path / "w.zip").stat().st_size
    policy = mine.policy
    assert [p.data_ptr() for p in policy.q_net.parameters()] == [p.data_ptr() for p in policy.q_net_target.parameters()]


def test_a_target_network_that_is_there_stays(tmp_path):
    """It is not overwritten by the network."""
    model = DQN("MlpPolicy", CountdownEnv(), buffer_size=2, device="cpu", seed=0, policy_kwargs={"net_arch": [4]})
    with th.no_grad():
        for parameter in model.q_net_target.parameters():
            parameter += 1
    model.save(tmp_path / "m")
    policy = load(tmp_path / "m.zip").policy
    for mine, theirs in zip(policy.parameters(), model.policy.parameters(), strict=True):
        assert th.equal(mine, theirs)
    assert not th.equal(policy.q_net.q_net[0].bias, policy.q_net_target.q_net[0].bias)


HOSTILE_WEIGHTS = {
    "part of the target": lambda w: w | {"q_net_target.q_net.0.bias": th.zeros(3)},
    "the target alone": lambda w: {name.replace("q_net.", "q_net_target.", 1): value for name, value in w.items()},
    "another shape": lambda w: w | {"q_net.q_net.0.bias": th.zeros(4)},
    "another kind": lambda w: w | {"q_net.q_net.0.bias": th.zeros(3, dtype=th.float64)},
    "not finite": lambda w: w | {"q_net.q_net.0.bias": th.full((3,), th.nan)},
    "one too many": lambda w: w | {"q_net.another": th.zeros(1)},
    "one missing": lambda w: dict(list(w.items())[1:]),
    "none": lambda w: {},
    "repeated": lambda w: w | {"q_net.q_net.0.weight": th.zeros(1).expand(3, 128)},
    "another's": lambda w: {name.replace("q_net", "quantile_net"): value for name, value in w.items()},
}


@pytest.mark.parametrize("change", HOSTILE_WEIGHTS)
def test_the_rest_is_as_strict_as_ever(tmp_path, saved, change):
    playing = {name: value for name, value in weights_of(saved).items() if name.startswith("q_net.")}
    changed = HOSTILE_WEIGHTS[change](playing)
    with pytest.raises(CheckpointError, match=r"m\.zip (has weights that do not fit|has a damaged member)"):
        load(zipped(tmp_path / "m.zip", only(saved, changed)))


def test_only_a_dqn_may_lack_it(tmp_path):
    """QR-DQN's and SAC's targets are asked for as before."""
    from sb3_contrib import QRDQN

    model = QRDQN("MlpPolicy", CountdownEnv(), buffer_size=2, device="cpu", policy_kwargs={"net_arch": [4]})
    model.save(tmp_path / "m")
    with zipfile.ZipFile(tmp_path / "m.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    playing = {name: value for name, value in weights_of(members).items() if name.startswith("quantile_net.")}
    with pytest.raises(CheckpointError, match=r"quantile_net_target.* is missing"):
        load(zipped(tmp_path / "n.zip", only(members, playing)))
