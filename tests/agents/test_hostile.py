"""Every checkpoint at hand has hostile twins: what SB3 would run in them does not run, and what is not read does not matter."""

import base64
import contextlib
import io
import json
import pickle
import time
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
import torch as th
import yaml
from conftest import ZOO
from stable_baselines3 import DQN
from stable_baselines3.common.save_util import load_from_zip_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.find import BUNDLED
from sb3_distill.agents.load import load_teacher
from tools import fuzz
from tools.corruptions import Entry, entries_of, opcodes, zip_of

ZIPS = sorted(ZOO.rglob("*.zip")) if ZOO.is_dir() else []
BUNDLED_ZIP = BUNDLED / "dqn" / "CartPole-v1_1" / "CartPole-v1.zip"
#: the bundled one, one with Dict observations and statistics that is made here, and the zoo's
AGENTS = [
    pytest.param(BUNDLED_ZIP, id="bundled"),
    pytest.param(None, id="Dict"),
    *(pytest.param(path, id="/".join(path.parts[-3::2]), marks=pytest.mark.zoo) for path in ZIPS),
]


@pytest.fixture(scope="module")
def agent(request, dict_files):
    """The files of an agent."""
    path = request.param
    return dict_files if path is None else fuzz.read_agents([path.parent])["/".join(path.parts[-4:])]


@pytest.fixture(scope="module")
def dict_files():
    return fuzz.dict_agent()


every_agent = pytest.mark.parametrize("agent", AGENTS, indirect=True)


@pytest.mark.zoo
def test_all_checkpoints_are_among_these():
    """Control: the list is made when tests are collected."""
    assert len(ZIPS) >= 39
    assert all(path.stat().st_size > 1_000 for path in ZIPS)


# --- twins ------------------------------------------------------------------------------------------------------------


class Canary:
    """Whoever unpickles this leaves a file."""

    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return open, (str(self.flag), "w")


@pytest.fixture
def flag(tmp_path):
    """What a canary leaves."""
    return tmp_path / "it ran"


def fired(flag):
    """Whether a canary did; makes it undone."""
    there = flag.exists()
    flag.unlink(missing_ok=True)
    return there


def torch_file(thing):
    buffer = io.BytesIO()
    th.save(thing, buffer)
    return buffer.getvalue()


def before(pickled, other):
    """A pickle that runs one, throws the result away, and then is the other."""
    first, second = opcodes(pickled)[0], opcodes(other)[0]
    assert first[-1] == b"."
    first = [op for op in first[:-1] if op != pickle.MEMOIZE]  # the other one counts what it files
    return b"".join([*first, b"0", *second[1:]])


def member(files, name):
    return next(entry.content for entry in entries_of(files["agent.zip"]) if entry.name == name)


def with_member(files, name, content):
    entries = {entry.name: entry for entry in entries_of(files["agent.zip"])} | {name: Entry(name, content)}
    return files | {"agent.zip": zip_of(list(entries.values()))}


def with_data(files, change):
    """The files with the JSON changed in place."""
    data = json.loads(member(files, "data"))
    change(data)
    return with_member(files, "data", json.dumps(data).encode())


def pickled_fields(files):
    return [k for k, v in json.loads(member(files, "data")).items() if isinstance(v, dict) and ":serialized:" in v]


def text(pickled):
    return base64.b64encode(pickled).decode()


def is_read(field, value):
    """Whether the loader looks into the pickle of an entry: for the policy's class, and the structure of a Dict."""
    return field == "policy_class" or (field == "observation_space" and "Dict" in value[":type:"])


def beside_what_is_read(files, flag):
    """Canaries wherever the loader has no business: in all other pickles of the JSON, all other members, and new ones."""
    pickled = pickle.dumps(Canary(flag))

    def change(data):
        for field in pickled_fields(files):
            if not is_read(field, data[field]):
                data[field][":serialized:"] = text(pickled)
        data["another"] = {":type:": "<class 'function'>", ":serialized:": text(pickled)}

    twin = with_data(files, change)
    there = {entry.name for entry in entries_of(files["agent.zip"]) if entry.name.endswith(".pth")}
    for name in (there | {"pytorch_variables.pth", "critic.optimizer.pth"}) - {"policy.pth"}:
        twin = with_member(twin, name, pickled if name == "tensors.pth" else torch_file(Canary(flag)))
    return twin | ({} if "vecnormalize.pkl" in files else {"vecnormalize.pkl": pickled})


YAML_CANARIES = (
    "normalize: !!python/object/apply:builtins.open ['FLAG', w]\n",
    "normalize: !!python/object/new:_io.open ['FLAG', w]\n",
    "!!python/object/apply:collections.OrderedDict\n- - - a\n    - !!python/object/apply:builtins.open ['FLAG', w]\n",
)


def in_what_is_read(files, flag):
    """Canaries where the loader must look: by name, the files."""
    canary = Canary(flag)
    pickled = pickle.dumps(canary)
    weights = th.load(io.BytesIO(member(files, "policy.pth")), weights_only=True, map_location="cpu")
    data = json.loads(member(files, "data"))
    a_dict = {":type:": "<class 'gymnasium.spaces.dict.Dict'>", ":serialized:": text(pickled)}
    a_class = base64.b64decode(data["policy_class"][":serialized:"])
    twins = {
        "class": with_data(files, lambda d: d["policy_class"].update({":serialized:": text(pickled)})),
        "class, before": with_data(
            files, lambda d: d["policy_class"].update({":serialized:": text(before(pickled, a_class))})
        ),
        "space": with_data(files, lambda d: d["observation_space"].update(a_dict)),
        "weights, a pickle": with_member(files, "policy.pth", pickled),
        "weights, of torch's": with_member(files, "policy.pth", torch_file(canary)),
        "weights, among them": with_member(files, "policy.pth", torch_file({**weights, "another": canary})),
    }
    if "vecnormalize.pkl" in files:
        twins["statistics"] = files | {"vecnormalize.pkl": pickled}
        twins["statistics, before"] = files | {"vecnormalize.pkl": before(pickled, files["vecnormalize.pkl"])}
    for name in files.keys() & {"config.yml", "args.yml"}:
        for i, canary_text in enumerate(YAML_CANARIES):
            twins[f"{name}, {i}"] = files | {name: canary_text.replace("FLAG", str(flag)).encode()}
    return twins


def answers(folder, files):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fuzz.load_and_ask(fuzz.write_agent(folder, files))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@every_agent
def test_canaries_beside_what_is_read(agent, tmp_path, flag):
    """Neither do they run nor do they change what the agent answers."""
    twin = beside_what_is_read(agent, flag)
    assert twin["agent.zip"].count(text(pickle.dumps(Canary(flag))).encode()) >= 5
    np.testing.assert_array_equal(answers(tmp_path, twin), answers(tmp_path, agent))
    assert not fired(flag)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@every_agent
def test_canaries_in_what_is_read(agent, tmp_path, flag):
    """They do not run; the agent is refused, or loads as if nothing was where only something else was thrown away."""
    original = answers(tmp_path, agent)
    refused = set()
    twins = in_what_is_read(agent, flag)
    for name, twin in twins.items():
        try:
            np.testing.assert_array_equal(answers(tmp_path, twin), original)
        except CheckpointError as error:
            refused.add(name)
            assert str(error).startswith(str(tmp_path))
        assert not fired(flag), name
    assert twins.keys() - refused <= {"class, before", "statistics, before"}


# --- controls: SB3 does run them --------------------------------------------------------------------------------------


@pytest.fixture
def bundled():
    return next(iter(fuzz.read_agents([BUNDLED_ZIP.parent]).values()))


def sb3_loads(folder, files):
    """SB3's own reader of zips, which reads the JSON first, and then lets torch refuse what is no weights."""
    fuzz.write_agent(folder, files)
    with warnings.catch_warnings(), contextlib.suppress(pickle.UnpicklingError):
        warnings.simplefilter("ignore")
        load_from_zip_file(folder / "algo" / "Fuzz-v0_1" / "Fuzz-v0.zip", device="cpu")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_sb3_runs_every_pickle_in_the_json(bundled, tmp_path, flag):
    """Control: each of these places is one where SB3 unpickles."""
    fields = pickled_fields(bundled)
    assert len(fields) >= 5
    serialized = text(pickle.dumps(Canary(flag)))
    for field in fields:
        sb3_loads(
            tmp_path, with_data(bundled, lambda data, field=field: data[field].update({":serialized:": serialized}))
        )
        assert fired(flag), field
    sb3_loads(tmp_path, beside_what_is_read(bundled, flag))
    assert fired(flag)
    sb3_loads(tmp_path, bundled)
    assert not fired(flag), "control of the control: the original has no canaries"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_sb3_loads_the_twin_that_looks_sound(bundled, tmp_path, flag):
    """Control: the model that comes of it is the very one, and the canary has run."""
    folder = fuzz.write_agent(tmp_path, in_what_is_read(bundled, flag)["class, before"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = DQN.load(folder / "Fuzz-v0.zip", device="cpu")
    assert fired(flag)
    teacher = load_teacher(folder, device="cpu")
    obs = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    assert th.equal(teacher.q_values(obs), model.q_net(th.as_tensor(obs)))
    assert not fired(flag)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("agent", AGENTS[:2], indirect=True)
def test_the_other_canaries_are_live(agent, flag):
    """Control: each runs where a file of its kind is loaded as one should not."""
    twins = in_what_is_read(agent, flag)
    for name in ("weights, of torch's", "weights, among them"):
        th.load(io.BytesIO(member(twins[name], "policy.pth")), weights_only=False)
        assert fired(flag)
    beside = beside_what_is_read(agent, flag)
    for entry in entries_of(beside["agent.zip"]):
        if entry.name.endswith(".pth") and entry.name != "policy.pth":
            th.load(io.BytesIO(entry.content), weights_only=False)
            assert fired(flag), entry.name
    for name, twin in twins.items():
        if name.startswith("statistics"):
            pickle.loads(twin["vecnormalize.pkl"])
            assert fired(flag), name
        for file in ("config.yml", "args.yml"):
            if name.startswith(file):
                yaml.unsafe_load(twin[file])
                assert fired(flag), name
    assert {name.partition(",")[0] for name in twins} >= (
        {"statistics"} if "vecnormalize.pkl" in agent else {"args.yml"}
    )


# --- what loading takes -----------------------------------------------------------------------------------------------


def load(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_teacher(path, device="cpu", **({"temperature": 1.0} if {"dqn", "qrdqn"} & set(path.parts) else {}))


FILES = [param for param in AGENTS if param.values[0] is not None]


@pytest.mark.parametrize("path", FILES)
def test_loading_is_fast(path):
    """0.02 s where this was written, whatever the file, without the episodes that choose a temperature; the best of three."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        load(path)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


class TorchMemory(TorchDispatchMode):
    """Adds up the bytes of every storage that torch takes from its own allocator, whether or not it gives them back."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}

        def storages(tree):
            tensors = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, th.Tensor) and not leaf.is_meta]
            return {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}

        there = storages((args, kwargs))
        made = function(*args, **kwargs)
        self.bytes += sum(size for address, size in storages(made).items() if address not in there)
        return made


def memory(action):
    """
    An upper bound of the memory that something takes at any one time, in bytes: what Python and numpy had at the most, as
    tracemalloc counts it, and all that torch ever took, which tracemalloc does not see. The resident size of the process
    would be coarser than these checkpoints: it grows by pages and arenas, and stands still where freed memory is used again.
    """
    with TorchMemory() as torch_memory:
        tracemalloc.start()
        try:
            start = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            action()
            return tracemalloc.get_traced_memory()[1] - start + torch_memory.bytes
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    "action", [lambda: bytes(10**7), lambda: np.ones(10**7, np.uint8), lambda: th.ones(10**7, dtype=th.uint8) + 1]
)
def test_memory_is_seen(action):
    """Control of the tests below: whoever takes it, and only who does."""
    assert memory(lambda: None) < 10_000
    assert 10**7 <= memory(action) < 2.1 * 10**7


#: bytes of the objects that any network is made of in Python, and of the JSON
OBJECTS = 1 << 18


@pytest.mark.parametrize("path", FILES)
def test_loading_takes_twice_the_weights(path):
    """The file's bytes and the tensors: nothing is held three times, and the network is not laid out a second time."""
    # And whatever Python keeps of it: the measurement itself has torch import parts of itself.
    memory(lambda: load(path))
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("policy.pth").file_size
    assert size - 20_000 < memory(lambda: load(path)) <= 2 * size + OBJECTS


def test_loading_a_large_network_takes_twice_its_weights(tmp_path):
    """The same where the weights leave everything else behind: 34 MB, half of them one matrix."""
    from envs_for_tests import CountdownEnv

    path = tmp_path / "model.zip"
    DQN("MlpPolicy", CountdownEnv(), buffer_size=2, device="cpu", policy_kwargs={"net_arch": [2048, 2048]}).save(path)
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("policy.pth").file_size
    assert size > 33 * 10**6
    loading = memory(lambda: load_teacher(path, device="cpu", temperature=1.0))
    assert size < loading <= 2 * size + OBJECTS
