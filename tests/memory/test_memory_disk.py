"""Reading a memory: each state once a pass, in any order and in little RAM; damaged and hostile files are named."""

import doctest
import importlib
import json
import shutil
import sys

import h5py
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from test_memory_record import cartpoles, countdowns, stacked

from envs_for_tests import DICT_SPACE, actor_critic_teacher
from sb3_distill.agents.load import load_teacher
from sb3_distill.memory import About, DamagedMemoryError, DiskMemory, check_memory, disk, record, sealed
from sb3_distill.memory.folder import METADATA, Settings
from sb3_distill.memory.sealed import USER_BLOCK, writing
from sb3_distill.memory.space_text import space_from_data, space_to_data
from tools.recording_kills import content

FIRST_FILE = "episodes_00000.hdf5"


@pytest.fixture(scope="module")
def cartpole():
    return load_teacher("zoo:dqn/CartPole-v1", temperature=1.0)


@pytest.fixture(scope="module")
def recorded(cartpole, tmp_path_factory):
    path = tmp_path_factory.mktemp("memory") / "cartpole"
    record(cartpole, cartpoles(), 3_000, path, epsilon=0.2)
    return path


@pytest.fixture
def path(recorded, tmp_path):
    """A copy to damage."""
    return shutil.copytree(recorded, tmp_path / "copy")


def rows(batches):
    return np.concatenate([np.hstack([batch.observations, batch.answers]) for batch in batches])


def in_order(array):
    return array[np.lexsort(array.T)]


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer_bytes", [1 << 30, 20_000, 6_144])
@pytest.mark.parametrize("batch_size", [1, 64, 999, 5_000])
def test_a_pass_has_every_state_once(recorded, buffer_bytes, batch_size):
    memory = DiskMemory(recorded, buffer_bytes)
    batches = list(memory.batches(batch_size, seed=0))
    assert [len(batch.answers) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert sum(len(batch.answers) for batch in batches) == len(memory) == 3_000
    episodes = list(memory.episodes())
    expected = np.concatenate([np.hstack([e.observations["observations"][:-1], e.answers]) for e in episodes])
    assert np.array_equal(in_order(rows(batches)), in_order(expected))


@pytest.mark.parametrize("buffer_bytes", [1 << 30, 20_000])
def test_the_seed_decides_the_order(recorded, buffer_bytes):
    memory = DiskMemory(recorded, buffer_bytes)
    first, again, other = (rows(memory.batches(100, seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_order_is_uniform_where_all_fits_and_mixed_where_not(recorded):
    """Correlation of a state's place in the pass with its time in the episode: none, for both."""
    memory = DiskMemory(recorded)
    time = {e.observations["observations"][t].tobytes(): t for e in memory.episodes() for t in range(len(e))}
    for buffer_bytes in (1 << 30, 40_000):
        states = [obs for b in DiskMemory(recorded, buffer_bytes).batches(500, 3) for obs in b.observations]
        times = np.array([time[obs.tobytes()] for obs in states])
        assert abs(np.corrcoef(times, np.arange(len(times)))[0, 1]) < 0.06  # three standard errors
        neighbours = np.abs(np.diff(times))
        assert np.median(neighbours) > 30


def test_answers_belong_to_their_states(recorded, cartpole):
    for batch in DiskMemory(recorded, 20_000).batches(700, 0):
        assert batch.answers.dtype == np.float32
        np.testing.assert_allclose(batch.answers, cartpole.q_values(batch.observations).numpy(), rtol=1e-5)


def test_the_buffer_is_the_most_that_is_in_ram(recorded, monkeypatch):
    sizes = []
    read = disk.read_pool

    def measured(*args):
        pool = read(*args)
        sizes.append(pool.answers.nbytes + sum(column.nbytes for column in pool.columns.values()))
        return pool

    monkeypatch.setattr(disk, "read_pool", measured)
    for _ in DiskMemory(recorded, 20_000).batches(100, 0):
        pass
    assert len(sizes) > 3
    assert max(sizes) <= 20_000
    assert sum(sizes) == DiskMemory(recorded).n_bytes


def test_a_memory_that_fits_is_read_once(recorded):
    memory = DiskMemory(recorded)
    first = rows(memory.batches(100, 0))
    memory._recorded = memory._recorded._replace(files=[])  # nothing left to read
    assert np.array_equal(rows(memory.batches(100, 0)), first)


def test_a_batch_may_be_written_into(recorded):
    memory = DiskMemory(recorded)
    before = rows(memory.batches(100, 0))
    for batch in memory.batches(100, 0):
        batch.observations[:] = 0
        batch.answers[:] = 0
    assert np.array_equal(rows(memory.batches(100, 0)), before)


@pytest.mark.parametrize("buffer_bytes", [1 << 30, 3_000])
def test_dict_observations(buffer_bytes, tmp_path):
    env = countdowns(DICT_SPACE)
    teacher = actor_critic_teacher(env)
    record(teacher, env, 300, tmp_path / "m")
    for batch in DiskMemory(tmp_path / "m", buffer_bytes).batches(64, 0):
        assert {key: value.shape[1:] for key, value in batch.observations.items()} == {"a": (2,), "b": (3,)}
        expected = teacher.answer(batch.observations).parameters.numpy()
        np.testing.assert_allclose(batch.answers, expected, rtol=1e-4, atol=1e-6)


IMAGES = {
    "channels last": lambda: stacked(),
    "channels first": lambda: countdowns(spaces.Box(0, 255, (3, 36, 40), np.uint8)),
    "of floats": lambda: countdowns(spaces.Box(-1.0, 1.0, (10, 12, 4), np.float32)),
    "in a dict": lambda: countdowns(
        spaces.Dict({"image": spaces.Box(0, 255, (3, 36, 36), np.uint8), "v": DICT_SPACE["a"]})
    ),
}


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("buffer_bytes", [1 << 30, 200_000])
def test_images(kind, buffer_bytes, tmp_path):
    env = IMAGES[kind]()
    teacher = actor_critic_teacher(env)
    record(teacher, env, 120, tmp_path / "m")
    n = 0
    for batch in DiskMemory(tmp_path / "m", buffer_bytes).batches(32, 0):
        space = env.observation_space
        observations = batch.observations if isinstance(space, spaces.Dict) else {"": batch.observations}
        for key, values in observations.items():
            part = space[key] if key else space
            assert (values.shape[1:], values.dtype) == (part.shape, part.dtype)
        with th.no_grad():
            expected = teacher.answer(batch.observations).parameters.numpy()
        np.testing.assert_allclose(batch.answers, expected, rtol=1e-3, atol=1e-5)
        n += len(batch.answers)
    assert n == 120


def test_bad_sizes(recorded):
    for batch_size in (0, -1, 2.5):
        with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1"):
            DiskMemory(recorded).batches(batch_size, 0)
    with pytest.raises(ValueError, match="buffer_bytes must be at least 6,144"):
        DiskMemory(recorded, 6_143)


def test_a_recording_that_was_killed_at_once_is_an_empty_memory(path):
    (path / FIRST_FILE).unlink()
    data = json.loads((path / METADATA).read_text())
    (path / METADATA).write_text(json.dumps(data | {"total_episodes": 0}))
    memory = DiskMemory(path)
    assert len(memory) == 0
    assert list(memory.batches(10, 0)) == []


def test_minari_reads_it(tmp_path):
    """With stacks of frames as the environment gave them, through links and virtual datasets."""
    minari = pytest.importorskip("minari", reason="minari needs Python 3.11")
    for name, env in (("frames", stacked()), ("dict", countdowns(DICT_SPACE))):
        teacher = actor_critic_teacher(env)
        memory = record(teacher, env, 100, tmp_path / name)
        theirs = minari.MinariDataset(tmp_path / name)
        assert (theirs.total_episodes, theirs.total_steps) == (memory.n_episodes, 100)
        assert theirs.observation_space == env.observation_space
        assert theirs.action_space == env.action_space
        for episode, ours in zip(theirs.iterate_episodes(), memory.episodes(), strict=True):
            assert np.array_equal(episode.actions, ours.actions)
            assert np.array_equal(episode.rewards, ours.rewards)
            assert episode.terminations.tolist() == [False] * (len(ours) - 1) + [ours.terminated]
            assert episode.truncations.tolist() == [False] * (len(ours) - 1) + [ours.truncated]
            assert np.array_equal(episode.infos["parameters"], ours.answers)
            states = episode.observations
            whole = {key: states[key][:-1] for key in states} if name == "dict" else states[:-1]
            np.testing.assert_allclose(teacher.answer(whole).parameters, ours.answers, rtol=1e-3, atol=1e-5)
        moved = shutil.move(tmp_path / name, tmp_path / f"moved_{name}")  # links are relative
        assert len(list(minari.MinariDataset(moved).iterate_episodes())) == memory.n_episodes


def test_the_doctest_runs():
    assert doctest.testmod(disk).failed == 0


def test_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.delitem(sys.modules, "sb3_distill.memory.hdf5")
    with pytest.raises(ImportError, match=r"pip install 'sb3-distill\[memory\]'"):
        importlib.import_module("sb3_distill.memory.hdf5")


# --- damage -----------------------------------------------------------------------------------------------------------


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no memory in"):
        DiskMemory(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no memory in"):
        DiskMemory(tmp_path / "nowhere")


@pytest.mark.parametrize("size", [0, 100, USER_BLOCK, USER_BLOCK + 1, 20_000, -1])
def test_a_truncated_file_is_named(path, size):
    file = path / FIRST_FILE
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(DamagedMemoryError, match=rf"{FIRST_FILE} is truncated or altered"):
        DiskMemory(path)


def test_an_altered_file_is_named_wherever_it_was_altered(path):
    file = path / FIRST_FILE
    whole = file.read_bytes()
    for position in (0, 30, 60, 120, 300, USER_BLOCK, *np.random.default_rng(0).integers(len(whole), size=40)):
        altered = bytearray(whole)
        altered[position] ^= 1
        file.write_bytes(altered)
        with pytest.raises(DamagedMemoryError, match=FIRST_FILE):
            DiskMemory(path)
    file.write_bytes(whole + b"\0")
    with pytest.raises(DamagedMemoryError, match=rf"{FIRST_FILE} is truncated or altered"):
        DiskMemory(path)
    file.write_bytes(whole)
    assert len(DiskMemory(path)) == 3_000


def test_mixed_versions_of_the_format(path, monkeypatch):
    file = path / FIRST_FILE
    memory_id = DiskMemory(path)._recorded.settings.memory_id()
    monkeypatch.setattr(sealed, "FORMAT", 2)
    with sealed.writing(file, memory_id):
        pass
    monkeypatch.undo()
    with pytest.raises(DamagedMemoryError, match=rf"{FIRST_FILE} is of format 2, and .* reads and writes format 1"):
        DiskMemory(path)


def test_metadata_of_another_version(path):
    data = json.loads((path / METADATA).read_text())
    data["sb3_distill"]["format"] = 3
    (path / METADATA).write_text(json.dumps(data))
    with pytest.raises(DamagedMemoryError, match=r"metadata\.json is of format 3"):
        DiskMemory(path)


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": 0.5},
        {"teacher": "a better one"},
        {"env_id": "Acrobot-v1"},
        {"kind": "parameters"},
        {"weights": "0" * 64},
    ],
)
def test_altered_metadata_are_known_by_the_files(path, change):
    data = json.loads((path / METADATA).read_text())
    data["sb3_distill"] |= change
    (path / METADATA).write_text(json.dumps(data))
    with pytest.raises(DamagedMemoryError, match=rf"{FIRST_FILE} is of another memory than metadata\.json"):
        DiskMemory(path)


def test_a_file_of_another_memory(path, cartpole, tmp_path):
    record(cartpole, cartpoles(), 200, tmp_path / "other", seed=9)
    shutil.copy(tmp_path / "other" / FIRST_FILE, path / FIRST_FILE)
    with pytest.raises(DamagedMemoryError, match="is of another memory"):
        DiskMemory(path)


@pytest.mark.parametrize("gone", [0, 1, -1])
def test_a_missing_file(cartpole, tmp_path, monkeypatch, gone):
    monkeypatch.setattr("sb3_distill.memory.folder.FILE_BYTES", 10_000)
    record(cartpole, cartpoles(), 1_000, tmp_path / "m", epsilon=0.5)
    files = sorted((tmp_path / "m").glob("episodes_*.hdf5"))
    assert len(files) >= 3
    files[gone].unlink()
    with pytest.raises(DamagedMemoryError, match="a file is missing"):
        DiskMemory(tmp_path / "m")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "truncated or altered"),
        ("{", "truncated or altered"),
        ("[" * 100_000, "truncated or altered"),
        ("[1]", "no entry 'sb3_distill'"),
        ("{}", "no entry 'sb3_distill'"),
        ('{"sb3_distill": {"format": 1}}', "truncated or altered"),
        ("\xff\xfe", "truncated or altered"),
    ],
)
def test_metadata_that_are_none(path, text, message):
    (path / METADATA).write_bytes(text.encode("latin-1"))
    with pytest.raises(DamagedMemoryError, match=message):
        DiskMemory(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "advice"),
        ("kind", ["q_values"]),
        ("n_envs", "4"),
        ("n_envs", True),
        ("epsilon", None),
        ("seed", 1.5),
        ("weights", 7),
        ("teacher", {"a": 1}),
        ("env_id", 3),
    ],
)
def test_metadata_of_other_types(path, key, value):
    data = json.loads((path / METADATA).read_text())
    data["sb3_distill"][key] = value
    (path / METADATA).write_text(json.dumps(data))
    with pytest.raises(DamagedMemoryError, match=r"metadata\.json is no metadata of a memory"):
        DiskMemory(path)


# --- hostile files: sealed as they should be, and of other content ---------------------------------------------------


def tampered(path, change):
    """Change a file of a memory as somebody would who knows the format, seal and all."""
    memory_id = DiskMemory(path)._recorded.settings.memory_id()
    with writing(path / FIRST_FILE, memory_id) as file:
        change(file, file["env_0_episode_0"])


def replace(group, name, **kwargs):
    del group[name]
    group.create_dataset(name, **kwargs)


def link_outside(file, group):
    del group["infos"]
    group["infos"] = h5py.ExternalLink("/etc/passwd", "/infos")


def soft_link(file, group):
    del group["rewards"]
    group["rewards"] = h5py.SoftLink("/env_0_episode_1/rewards")


def outside_bytes(file, group):
    shape = group["observations"].shape
    replace(group, "observations", shape=shape, dtype=np.float32, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual(file, group):
    layout = h5py.VirtualLayout(group["infos/q_values"].shape, np.float32)
    layout[:] = h5py.VirtualSource("/tmp/elsewhere.hdf5", "x", layout.shape)
    del group["infos/q_values"]
    group.create_virtual_dataset("infos/q_values", layout)


def text(file, group):
    replace(group, "rewards", shape=group["rewards"].shape, dtype=h5py.string_dtype())


def a_dataset_as_a_group(file, group):
    del group["infos"]
    group["infos"] = np.zeros(3)


HOSTILE_ARRAYS = {
    "a link to another file": link_outside,
    "a soft link": soft_link,
    "bytes of another file": outside_bytes,
    "a virtual dataset": virtual,
    "text": text,
    "a dataset for a group": a_dataset_as_a_group,
    "another shape": lambda file, group: replace(group, "actions", data=np.zeros(3, np.int64)),
    "another type": lambda file, group: replace(group, "actions", data=group["actions"][()].astype(np.float64)),
    "nothing": lambda file, group: group.__delitem__("terminations"),
}


@pytest.mark.parametrize("kind", HOSTILE_ARRAYS)
def test_hostile_arrays(path, kind):
    tampered(path, HOSTILE_ARRAYS[kind])
    with pytest.raises(DamagedMemoryError, match=rf"{FIRST_FILE} is damaged: env_0_episode_0/"):
        list(DiskMemory(path).episodes())


def numbers(**changes):
    def change(file, group):
        for name, value in changes.items():
            group.attrs[name] = value

    return change


HOSTILE_GROUPS = {
    "more steps than bytes": (
        numbers(total_steps=10**12, played=np.array([0, 0, 10**12])),
        "more steps than it can hold",
    ),
    "no steps": (numbers(total_steps=0), "is no episode"),
    "steps that are text": (numbers(total_steps="many"), "is no episode"),
    "too few numbers": (numbers(played=np.array([0, 0])), "is no episode"),
    "too many numbers": (numbers(played=np.array([0, 0, 500, 1])), "is no episode"),
    "an environment below 0": (numbers(played=np.array([-1, 0, 500])), "is no episode"),
    "an environment too many": (numbers(played=np.array([9, 0, 500])), "a file is missing"),
    "a dataset": (lambda file, group: file.create_dataset("x", data=1), "is missing, or is not in this file"),
    "a link": (lambda file, group: file.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/")), "not in this file"),
}


@pytest.mark.parametrize("kind", HOSTILE_GROUPS)
def test_hostile_groups(path, kind):
    change, message = HOSTILE_GROUPS[kind]
    tampered(path, change)
    with pytest.raises(DamagedMemoryError, match=message):
        DiskMemory(path)


def test_a_file_that_is_no_hdf5(path):
    memory_id = DiskMemory(path)._recorded.settings.memory_id()
    file = path / FIRST_FILE
    file.unlink()
    with writing(file, memory_id):
        pass
    content_ = bytearray(file.read_bytes())
    content_[USER_BLOCK:] = b"\x80\x04N." * 100
    file.write_bytes(content_)
    with file.open("r+b") as raw:
        header = sealed._header(memory_id)
        raw.write(header + b"sha256 " + sealed._digest(raw, header).encode() + b"\n")
    with pytest.raises(DamagedMemoryError, match=rf"{FIRST_FILE} is damaged"):
        DiskMemory(path)


def test_a_chunk_that_would_fill_the_memory(tmp_path):
    """A few compressed bytes that stand for a gigabyte of planes."""
    env = countdowns(spaces.Box(0, 255, (1, 8, 8), np.uint8), n=1)
    path = tmp_path / "m"
    record(actor_critic_teacher(env), env, 5, path)

    def change(file, group):
        del group["planes"]
        group.create_dataset(
            "planes", shape=(6, 8, 8), maxshape=(None, 8, 8), dtype=np.uint8, chunks=(1 << 24, 8, 8), compression="gzip"
        )

    tampered(path, change)
    with pytest.raises(DamagedMemoryError, match="is not stored in the file as a memory's numbers are"):
        list(DiskMemory(path).batches(5, 0))


# --- spaces -----------------------------------------------------------------------------------------------------------

SPACES = [
    spaces.Box(np.array([-4.8, -np.inf], np.float32), np.array([4.8, np.inf], np.float32)),
    spaces.Box(0, 255, (84, 84, 4), np.uint8),
    spaces.Box(-1.0, 1.0, (3,), np.float64),
    spaces.Discrete(5),
    spaces.Discrete(5, start=-2),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(4),
    spaces.MultiBinary([2, 3]),
    DICT_SPACE,
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_spaces_as_text_and_back(space):
    again = space_from_data(json.loads(json.dumps(space_to_data(space))))
    assert again == space
    assert again.dtype == space.dtype


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_text_is_minaris(space):
    serialization = pytest.importorskip("minari.serialization", reason="minari needs Python 3.11")
    assert json.loads(serialization.serialize_space(space)) == space_to_data(space)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"type": "Box"},
        {"type": "Graph"},
        {"type": "os.system"},
        {"type": "Box", "dtype": "float32", "shape": [1 << 40], "low": [0], "high": [1]},
        {"type": "Box", "dtype": "S4000000000", "shape": [1], "low": [0], "high": [1]},
        {"type": "Box", "dtype": "float32", "shape": [2], "low": [[0], [1, 2]], "high": [1, 1]},
        {"type": "Box", "dtype": "float32", "shape": [2], "low": {"a": 1}, "high": [1, 1]},
        {"type": "Box", "dtype": "float32", "shape": "22", "low": [0, 0], "high": ["x", 1]},
        {"type": "Discrete", "n": -1, "start": 0},
        {"type": "Discrete"},
        {"type": "Discrete", "n": 1e300, "start": 0},
        {"type": "MultiDiscrete", "nvec": [1 << 60, 1 << 60]},
        {"type": "Dict"},
        {"type": "Dict", "subspaces": [1]},
        {"type": "Dict", "subspaces": {"a": None}},
        {"type": "Dict", "subspaces": {"a": {"type": "Dict", "subspaces": {}}}},
        {"type": "Dict", "subspaces": {str(k): {"type": "Discrete", "n": 2, "start": 0} for k in range(2_000)}},
    ],
    ids=lambda data: str(data)[:60],
)
def test_hostile_spaces(data):
    with pytest.raises(ValueError):
        space_from_data(data)


def test_a_space_without_a_memory():
    with pytest.raises(TypeError, match="No memory of Text"):
        space_to_data(spaces.Text(5))


# --- fitting ----------------------------------------------------------------------------------------------------------

ABOUT = About("CartPole-v1", "dqn/CartPole-v1", SPACES[0], spaces.Discrete(2), "q_values")


def test_a_memory_that_fits():
    check_memory(ABOUT)
    check_memory(ABOUT, SPACES[0], spaces.Discrete(2), "CartPole-v1", "dqn/CartPole-v1")
    check_memory(ABOUT._replace(env_id=None), env_id="CartPole-v1")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"env_id": "Acrobot-v1"}, r"another environment: it was recorded in 'CartPole-v1', .* is for 'Acrobot-v1'"),
        ({"observation_space": SPACES[2]}, r"(?s)its observation space is Box.*\(2,\).*the student's is Box.*\(3,\)"),
        ({"action_space": spaces.Discrete(3)}, r"its action space is Discrete\(2\), the student's is Discrete\(3\)"),
        ({"teacher": "ppo/CartPole-v1"}, r"another teacher: of 'dqn/CartPole-v1', not of 'ppo/CartPole-v1'"),
    ],
)
def test_a_memory_that_does_not_fit(given, message):
    with pytest.raises(ValueError, match=message):
        check_memory(ABOUT, **given)


def test_no_two_settings_have_one_id():
    settings = Settings(ABOUT, "0" * 64, 4, 0.1, 0)
    others = [
        settings._replace(epsilon=0.2),
        settings._replace(seed=1),
        settings._replace(n_envs=5),
        settings._replace(weights="1" * 64),
        settings._replace(about=ABOUT._replace(kind="parameters")),
        settings._replace(about=ABOUT._replace(observation_space=SPACES[2])),
    ]
    assert len({each.memory_id() for each in (settings, *others)}) == 7


def test_copies_are_equal_in_content(recorded, path):
    assert content(DiskMemory(recorded)) == content(DiskMemory(path))
