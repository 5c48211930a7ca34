"""The fuzzer damages what it says it damages and sees what it must see; and the bombs that it throws, one by one."""

import base64
import contextlib
import io
import json
import os
import pickle
import signal
import struct
import sys
import time
import zipfile
import zlib
from collections import OrderedDict
from random import Random

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC

from envs_for_tests import CountdownEnv
from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.find import BUNDLED
from sb3_distill.agents.load import load_teacher
from sb3_distill.agents.saved_weights import MoreThanWeightsError, read_weights
from sb3_distill.agents.unpickling import MAX_OPCODES, pickled_names, unpickle_inert
from tools import fuzz
from tools.corruptions import (
    CORRUPTIONS,
    PICKLE_BOMBS,
    Entry,
    claimed_sizes,
    edit,
    entries_of,
    opcodes,
    places,
    unpack,
    weights_of,
    zeros,
    zip_of,
)

DQN, DICT = "dqn", "dict"


@pytest.fixture(scope="module")
def agents():
    """The bundled agent of CartPole, and one with Dict observations and statistics."""
    (bundled,) = fuzz.read_agents([BUNDLED / "dqn" / "CartPole-v1_1"]).values()
    return {DQN: bundled, DICT: fuzz.dict_agent()}


# --- corruptions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [DQN, DICT])
def test_files_within_files_are_packed_as_they_were(agents, name, tmp_path):
    """Control: what a corruption does not touch stays as it is, wherever a file is taken apart for it."""
    files = agents[name]
    original = fuzz.load_and_ask(fuzz.write_agent(tmp_path, files))
    everywhere = [place for place, _ in places(files)]
    assert {place[-1] for place in everywhere} >= {
        "agent.zip",
        "data",
        "policy_class",
        "policy.pth",
        "archive/data.pkl",
    }
    for place in everywhere:
        repacked = edit(files, place, lambda content: content)
        np.testing.assert_array_equal(fuzz.load_and_ask(fuzz.write_agent(tmp_path, repacked)), original)
        assert dict(places(repacked)).keys() == dict(places(files)).keys()


def test_pickles_are_cut_into_opcodes_and_mean_the_same(agents):
    """Control: without frames, and spliced anew, a pickle is the pickle that it was."""
    content = agents[DICT]["vecnormalize.pkl"]
    ops, rest = opcodes(content)
    assert len(ops) > 100
    assert rest == b""
    again = pickle.loads(b"".join(ops))
    np.testing.assert_array_equal(again.obs_rms["vec"].mean, pickle.loads(content).obs_rms["vec"].mean)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruptions_corrupt(agents, kind):
    """Nearly every case differs from the agent that it is made of and from the other cases, and is the same when repeated."""
    numbers = range(list(CORRUPTIONS).index(kind), 16 * len(CORRUPTIONS), len(CORRUPTIONS))
    cases = [fuzz.make_case(agents, 0, number) for number in numbers]
    assert {case.kind for case in cases} == {kind}
    changed = [tuple(case.files.items()) for case in cases if case.files != case.original]
    assert len(changed) >= (12 if kind != "another agent's" else 4)
    assert len(set(changed)) >= (8 if kind != "another agent's" else 4)
    for number, case in list(zip(numbers, cases, strict=True))[:4]:
        assert fuzz.make_case(agents, 0, number).files == case.files
    assert any(fuzz.make_case(agents, 1, n).files != c.files for n, c in list(zip(numbers, cases, strict=True))[:4])


def test_a_bomb_unpacks_to_what_it_says():
    """Control of the tests of bombs: each megabyte is a kilobyte, and unpacks."""
    content = zeros(100, zipfile.ZIP_DEFLATED)
    assert len(content) < 100 << 11
    decompressor = zlib.decompressobj(-15)
    size = 0
    while content:
        size += len(decompressor.decompress(content, 1 << 24))
        content = decompressor.unconsumed_tail
    assert size == 100 << 20


# --- what the fuzzer sees ---------------------------------------------------------------------------------------------


def runs_the_pickle(folder):
    """A loader as one should not write it."""
    for _, content in places({"vecnormalize.pkl": (folder / "Fuzz-v0" / "vecnormalize.pkl").read_bytes()}):
        with contextlib.suppress(Exception):
            pickle.loads(content)
    return np.zeros(1)


class Harmful:
    """A loader that does what the first byte of the zip says; it must be known to the worker, and so stands here."""

    def __call__(self, folder):
        what = (folder / "Fuzz-v0.zip").read_bytes().decode()
        if what == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == "hang":
            time.sleep(60)
        if what == "memory":
            return np.ones(fuzz.MAX_MEMORY // 8 + (1 << 24))
        if what == "memory, hidden":
            try:
                return np.ones(1 << 40)
            except MemoryError as error:
                raise CheckpointError("is too large") from error
        if what == "refused":
            raise CheckpointError("is damaged")
        return np.array(len(what))


HARM = ["loaded", "refused", "memory", "memory, hidden", "other answers", "hang", "crash", "loaded"]


def harm(number):
    """One of these, as a case."""
    what = HARM[number]
    original = {"agent.zip": b"loaded"}
    return fuzz.Case(what, "here", {"agent.zip": what.encode()}, original, checked=what == "other answers")


def test_the_watch_sees_what_happens_to_a_worker():
    """Memory, hangs and crashes are reported, and the next case has a worker again."""
    watch = fuzz.Watch(harm, Harmful(), seconds=1.0)
    outcomes = [watch.run(number) for number in range(len(HARM))]
    watch.stop()
    assert [outcome.kind for outcome in outcomes] == HARM
    results = [outcome.result for outcome in outcomes]
    assert results[0] == results[-1] == "loaded"
    assert results[1] == "refused"
    assert "MemoryError" in results[2] or "MiB" in results[2]
    assert results[3] == "asked for more memory than there is"
    assert results[4] == "other answers than the original's"
    assert results[5] == "hangs for more than 1 s"
    assert results[6] == f"the worker died of {-signal.SIGSEGV}"
    assert [outcome.failed for outcome in outcomes] == [False, False, True, True, True, True, True, False]


def test_canaries_are_seen(agents, tmp_path, monkeypatch):
    """A loader that runs pickles is found out by most of the canaries, and the next case starts anew."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    rng = Random(0)
    content = agents[DICT]["vecnormalize.pkl"]
    files = {"agent.zip": b"", "vecnormalize.pkl": content}
    results = []
    for _ in range(30):
        changed = CORRUPTIONS["pickle: canaries"][1](rng, content, b"")
        folder = fuzz.write_agent(tmp_path, files | {"vecnormalize.pkl": changed})
        results.append(fuzz.attempt(runs_the_pickle, folder).result)
    assert results.count("code of the checkpoint was run") > 15
    assert fuzz.attempt(runs_the_pickle, fuzz.write_agent(tmp_path, files)).result == "loaded"


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (CheckpointError("is damaged"), "refused"),
        (FileNotFoundError("no file"), "refused"),
        (ValueError("shapes"), "ValueError: shapes"),
        (RecursionError(), "RecursionError: "),
        (SystemExit(0), "SystemExit: 0"),
        (MemoryError(), "MemoryError: "),
    ],
)
def test_other_errors_are_failures(error, result, tmp_path):
    """One class of error is a refusal, whatever else comes out of a loader is not."""

    def load(folder):
        raise error

    assert fuzz.attempt(load, tmp_path).result == result


def test_slow_and_greedy_loaders_are_seen(tmp_path, monkeypatch):
    """Limits hold for loaders that come back, too."""
    monkeypatch.setattr(fuzz, "MAX_SECONDS", 0.05)
    assert fuzz.attempt(lambda folder: time.sleep(0.1), tmp_path).result == "took more than 0.05 s"
    monkeypatch.setattr(fuzz, "MAX_SECONDS", 9)
    monkeypatch.setattr(fuzz, "MAX_MEMORY", 100 << 20)
    assert fuzz.attempt(lambda folder: np.ones(25 << 20), tmp_path).result == "took more than 100 MiB"


# --- a small run ------------------------------------------------------------------------------------------------------


def test_a_small_run_finds_nothing(capsys):
    """Every kind of corruption, by the command; some load, some are refused, none do harm."""
    count = 8 * len(CORRUPTIONS)
    with pytest.raises(SystemExit) as done:
        fuzz.main([str(BUNDLED), "--count", str(count), "--seed", "0"])
    lines = capsys.readouterr().out.splitlines()
    assert done.value.code == 0, "\n".join(lines)
    rows = {
        cells[1].strip(): [c.strip() for c in cells[2:-1]]
        for cells in (line.split("│") for line in lines if "│" in line)
    }
    assert rows.keys() == {*CORRUPTIONS, "all"}
    assert all(row[0] == "8" and row[3] == "0" for name, row in rows.items() if name != "all")
    assert int(rows["all"][1]) > count // 5
    assert int(rows["all"][2]) > count // 5


def test_failures_are_listed_and_can_be_repeated(capsys, monkeypatch):
    """The exit code says it, and the last lines say how to see one again."""
    monkeypatch.setattr(fuzz, "dict_agent", dict)
    monkeypatch.setattr(
        fuzz.Watch, "run", lambda self, number: fuzz.Outcome("hangs" if number == 7 else "loaded", kind="truncated")
    )
    with pytest.raises(SystemExit) as done:
        fuzz.main([str(BUNDLED), "--count", "9", "--seed", "3"])
    assert done.value.code == 1
    assert "--seed 3 --only 7: truncated, : hangs" in capsys.readouterr().out
    with pytest.raises(SystemExit) as done:
        fuzz.main([str(BUNDLED), "--only", "8", "--seed", "3"])
    assert done.value.code == 0


# --- bombs ------------------------------------------------------------------------------------------------------------


def refusal(folder, files):
    """The first line of the refusal, which takes no time and no memory."""
    messages = []

    def load(path):
        try:
            load_teacher(path, device="cpu")
        except CheckpointError as error:
            messages.append(str(error).splitlines()[0])
            raise

    outcome = fuzz.attempt(load, fuzz.write_agent(folder, files))
    assert outcome.result == "refused"
    assert outcome.seconds < 2.0
    assert outcome.memory < 100 << 20
    assert messages[0].startswith(str(folder))
    assert len(messages[0]) < 1_000
    return messages[0]


def in_zip(files, name, content, method=zipfile.ZIP_STORED, size=None, within=()):
    """The files with another member in the zip, or in a zip in the zip."""

    def change(zipped):
        return zip_of(
            [Entry(name, content, method, size) if entry.name == name else entry for entry in entries_of(zipped)]
        )

    return edit(files, ("agent.zip", *within), change)


def in_data(files, **entries):
    """The files with other entries in the JSON."""
    return edit(files, ("agent.zip", "data"), lambda data: json.dumps(json.loads(data) | entries).encode())


def in_statistics(files, name, piece):
    """The files with an attribute of the VecNormalize set by some opcodes."""

    def change(content):
        ops, _ = opcodes(content)
        last = max(i for i, op in enumerate(ops) if op == b"u")
        ops.insert(last, b"X" + struct.pack("<I", len(name)) + name.encode() + piece)
        return b"".join(ops)

    return edit(files, ("vecnormalize.pkl",), change)


@pytest.mark.parametrize("claim", [None, 3_000 << 20, 5_000, 1 << 24], ids=["packed", "all", "little", "much"])
@pytest.mark.parametrize("member", ["data", "policy.pth"])
def test_deflate_bombs(agents, tmp_path, member, claim):
    """A member of 3 GB in 3 MB: it is not unpacked beyond what it claims, and may not claim that much."""
    line = refusal(
        tmp_path, in_zip(agents[DQN], member, zeros(3_000, zipfile.ZIP_DEFLATED), zipfile.ZIP_DEFLATED, claim)
    )
    assert "claims to unpack to" in line if claim == 3_000 << 20 else "Bad CRC-32" in line


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_bombs_of_other_methods(agents, tmp_path, method):
    """Python has no limit for these: 32 MB would be unpacked whatever is claimed."""
    line = refusal(tmp_path, in_zip(agents[DQN], "data", zeros(32, method), method, 5_000))
    assert line.endswith("its member 'data' is compressed in a way that SB3 does not use. Copy or download it again.")


@pytest.mark.parametrize("claim", [3_000 << 20, 5_000])
@pytest.mark.parametrize("member", ["archive/data.pkl", "archive/data/0"])
def test_deflate_bombs_in_the_zip_within(agents, tmp_path, member, claim):
    """torch never compresses what is in a policy.pth, so nothing there is unpacked."""
    bomb = zeros(3_000, zipfile.ZIP_DEFLATED)
    files = in_zip(agents[DQN], member, bomb, zipfile.ZIP_DEFLATED, claim, within=("policy.pth",))
    assert f"has a damaged member 'policy.pth': its member '{member}' is compressed" in refusal(tmp_path, files)


@pytest.mark.parametrize("within", [(), ("policy.pth",)])
def test_a_crowd_of_members(agents, tmp_path, within):
    """Hundreds of thousands of members are listed in a few megabytes."""
    files = edit(
        agents[DQN], ("agent.zip", *within), lambda z: zip_of([*entries_of(z), Entry("x", b"")], copies=40_000)
    )
    assert "it has more than 10,000 members" in refusal(tmp_path, files)


def test_a_crowd_in_a_compressed_member(agents, tmp_path):
    """Nothing shows from outside how many there are."""
    weights = zip_of([*entries_of(unpack("", agents[DQN]["agent.zip"])["policy.pth"]), Entry("x", b"")], copies=20_000)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = compressor.compress(weights) + compressor.flush()
    entries = [e for e in entries_of(agents[DQN]["agent.zip"]) if e.name != "policy.pth"]
    entries.append(Entry("policy.pth", packed, zipfile.ZIP_DEFLATED, len(weights), zlib.crc32(weights)))
    line = refusal(tmp_path, agents[DQN] | {"agent.zip": zip_of(entries)})
    assert "has a damaged member 'policy.pth': it has more than 10,000 members" in line


@pytest.mark.parametrize(
    "data", [b"[" + b"[]," * (1 << 20) + b"0]", b'"' + b"a" * (1 << 25) + b'"', b'{"policy_class":' + b"[" * (2 << 20)]
)
def test_a_crowd_of_values(agents, tmp_path, data):
    """Three bytes of JSON are an object of a hundred."""
    assert "its member 'data' is not JSON: it is larger than" in refusal(tmp_path, in_zip(agents[DQN], "data", data))


@pytest.mark.parametrize(
    ("bomb", "attribute"),
    [(bomb, "obs_rms") for bomb in PICKLE_BOMBS] + [("a list of 2^60", "epsilon"), ("a large array", "norm_obs")],
)
def test_bombs_in_statistics(agents, tmp_path, bomb, attribute):
    """Whatever the pickle unfolds to, in a place that is read, it is refused."""
    files = in_statistics(agents[DICT], attribute, PICKLE_BOMBS[bomb]())
    assert "vecnormalize.pkl holds no VecNormalize statistics: " in refusal(tmp_path, files)


@pytest.mark.parametrize("bomb", PICKLE_BOMBS)
def test_bombs_in_the_pickle_of_the_weights(agents, tmp_path, bomb):
    """torch's own unpickler hangs or dies of some of these."""
    place = ("agent.zip", "policy.pth", "archive/data.pkl")
    files = edit(agents[DQN], place, lambda content: b"\x80\x02" + PICKLE_BOMBS[bomb]() + b".")
    assert "'policy.pth'" in refusal(tmp_path, files)


@pytest.mark.parametrize("bomb", PICKLE_BOMBS)
def test_bombs_in_the_pickle_of_a_space(agents, tmp_path, bomb):
    """Only a Dict is read from its pickle."""
    piece = PICKLE_BOMBS[bomb]()
    files = edit(agents[DICT], ("agent.zip", "data", "observation_space"), lambda content: b"\x80\x04" + piece + b".")
    line = refusal(tmp_path, files)
    assert "cannot be read: " in line or "'data' is not JSON: it is larger than" in line


def test_bombs_beside_what_is_read_do_no_harm(agents, tmp_path, monkeypatch):
    """What is nowhere looked at may be as large as it likes: the agent loads, in no time."""
    monkeypatch.chdir(tmp_path)
    for bomb in (
        "a tuple of 2^60",
        "a list of 2^60",
        "a tuple of 2^60 for a key",
        "copies of a state",
        "nested tuples for a key",
    ):
        files = in_statistics(agents[DICT], "unknown", PICKLE_BOMBS[bomb]()[:300_000])
        assert fuzz.attempt(fuzz.load_and_ask, fuzz.write_agent(tmp_path, files)).result in ("loaded", "refused"), bomb


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="tuples keep their hashes from then on")
def test_python_itself_would_hang_on_the_bombs():
    """Control: some of these do take what they say; a shorter one is timed, and its time doubles with each step."""

    def seconds(depth):
        start = time.perf_counter()
        pickle.loads(b"\x80\x02}N" + b"2\x86" * depth + b"Ns.")
        return time.perf_counter() - start

    assert seconds(22) > 4 * seconds(17)


# --- claims -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [10**4, 10**6])
@pytest.mark.parametrize("form", ["repeated", "meta", "sparse"])
def test_weights_that_are_not_there(agents, tmp_path, form, n):
    """A network of up to 4 TB is described, and weights of its shapes: one number, repeated; or none at all."""
    members = unpack("", agents[DQN]["agent.zip"])
    make = {
        "repeated": lambda shape: th.zeros(()).expand(shape),
        "meta": lambda shape: th.zeros(shape, device="meta"),
        "sparse": lambda shape: th.sparse_coo_tensor(size=shape, check_invariants=True),
    }[form]
    shapes = {name: [n if d == 256 else d for d in w.shape] for name, w in weights_of(members).items()}
    buffer = io.BytesIO()
    th.save({name: make(shape) for name, shape in shapes.items()}, buffer)
    files = in_zip(agents[DQN], "policy.pth", buffer.getvalue())
    line = refusal(tmp_path, in_data(files, policy_kwargs={"net_arch": [n, n]}))
    assert (
        "one of its tensors repeats 1 numbers to claim" if form == "repeated" else "holds more than weights"
    ) in line


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(agents, tmp_path, number):
    """One of them is enough, and would make an error, or no numbers, of every observation."""
    weights = weights_of(unpack("", agents[DQN]["agent.zip"]))
    weights["q_net.q_net.2.weight"][7, 7] = number
    buffer = io.BytesIO()
    th.save(weights, buffer)
    line = refusal(tmp_path, in_zip(agents[DQN], "policy.pth", buffer.getvalue()))
    assert "q_net.q_net.2.weight has numbers that are not finite" in line


def test_weights_may_be_views(agents, tmp_path):
    """Control: torch writes tensors that share a storage, or run across it, and these are read as they are."""
    rng, original = Random(0), agents[DQN]["agent.zip"]
    changed = next(
        c
        for c in (claimed_sizes(rng, original, b"") for _ in range(99))
        if unpack("", c)["data"] == unpack("", original)["data"]
    )
    folder = fuzz.write_agent(tmp_path, agents[DQN])
    expected = fuzz.load_and_ask(folder)
    answers = fuzz.load_and_ask(fuzz.write_agent(tmp_path, agents[DQN] | {"agent.zip": changed}))
    # Where numbers lie decides in which order float32 sums are rounded.
    np.testing.assert_allclose(answers, expected, rtol=1e-5, atol=1e-6)


def test_a_layer_without_units_fits_no_claim(agents, tmp_path):
    """A first layer of no units has weights of no numbers, for as many inputs as one likes: 64 million, one-hot."""
    members = unpack("", agents[DQN]["agent.zip"])
    weights = {
        name: th.zeros([0 if d == 256 else 1 << 26 if d == 4 else d for d in w.shape])
        for name, w in weights_of(members).items()
    }
    buffer = io.BytesIO()
    th.save(weights, buffer)
    space = {":type:": "<class 'gymnasium.spaces.discrete.Discrete'>", "n": 1 << 26}
    files = in_zip(agents[DQN], "policy.pth", buffer.getvalue())
    files = in_data(files, policy_kwargs={"net_arch": [0, 256]}, observation_space=space)
    assert "cannot be read: policy_kwargs has net_arch='[0, 256]'" in refusal(tmp_path, files)


def legacy(weights):
    """As torch wrote before 1.6."""
    buffer = io.BytesIO()
    th.save(weights, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def test_a_storage_that_is_not_there(agents, tmp_path):
    """In the format before torch 1.6, torch takes memory as the pickle says, and fills it if the storage is listed."""
    whole = legacy(weights_of(unpack("", agents[DQN]["agent.zip"])))
    assert_as_torch_reads(whole)
    end_of_pickle = whole.rindex(pickle.PROTO + b"\x02]")  # a list of keys follows, and then the storages
    cut = whole[:end_of_pickle] + pickle.dumps([], 2)
    line = refusal(tmp_path, in_zip(agents[DQN], "policy.pth", cut))
    assert "has a damaged member 'policy.pth': KeyError" in line


@pytest.mark.parametrize("length", [-1, 1 << 30, 1 << 62])
def test_a_storage_that_claims_more_than_there_is(agents, tmp_path, length):
    """The length stands before each storage."""
    weights = weights_of(unpack("", agents[DQN]["agent.zip"]))
    whole = legacy(weights)
    first = len(whole) - sum(8 + w.numel() * 4 for w in weights.values())
    lying = whole[:first] + struct.pack("<q", length) + whole[first + 8 :]
    assert "one of its storages claims" in refusal(tmp_path, in_zip(agents[DQN], "policy.pth", lying))


class Storage:
    """What a tensor of :func:`described` lies in."""

    def __init__(self, key="0", length=8):
        self.key, self.length = key, length


def described(storage, offset, size, stride):
    """A file of torch's with a tensor, as its pickle describes it, and a storage of eight numbers."""

    class Described:
        def __reduce__(self):
            return th._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return ("storage", th.FloatStorage, thing.key, "cpu", thing.length) if isinstance(thing, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"x": Described()})
    numbers = np.arange(8, dtype=np.float32).tobytes()
    parts = {"data.pkl": buffer.getvalue(), "data/0": numbers, "version": b"3\n"}
    return zip_of([Entry(f"archive/{name}", content) for name, content in parts.items()])


@pytest.mark.parametrize(
    ("storage", "offset", "size", "stride", "problem"),
    [
        (Storage(), 1, (8,), (1,), "reaches beyond its storage"),
        (Storage(), 0, (2, 2), (1, 7), "reaches beyond its storage"),
        (Storage(), 1 << 40, (1,), (1,), "reaches beyond its storage"),
        (Storage(), 0, (3, 3), (0, 1), "repeats 8 numbers to claim 9"),
        (Storage(), 0, (1 << 40,), (0,), "repeats 8 numbers to claim"),
        (Storage(), -1, (2,), (1,), "has an impossible size"),
        (Storage(), 0, (-2,), (1,), "has an impossible size"),
        (Storage(), 0, (2,), (-1,), "has an impossible size"),
        (Storage(), 0, (1 << 70,), (0,), "has an impossible size"),
        (Storage(), 0, (1,) * 11, (1,) * 11, "has an impossible size"),
        (Storage(), 0, (2.0,), (1,), "has an impossible size"),
        (Storage(), 0, (2,), (1, 1), "zip"),
        (Storage(length=9), 0, (2,), (1,), "has not the numbers that it claims"),
        (Storage(length=7), 0, (2,), (1,), "has not the numbers that it claims"),
        (Storage(length=8.0), 0, (2,), (1,), "is no storage"),
        (Storage(key=("0",)), 0, (2,), (1,), "is no storage"),
        (Storage(key="1"), 0, (2,), (1,), "archive/data/1"),
    ],
)
def test_tensors_that_lie(storage, offset, size, stride, problem):
    """Sizes, strides and offsets are compared with the bytes that are there."""
    with pytest.raises((ValueError, KeyError), match=problem):
        read_weights(described(storage, offset, size, stride))


def test_tensors_that_do_not_lie():
    """Control of the test above: rows may overlap, as long as they claim no more numbers than there are."""
    assert_as_torch_reads(described(Storage(), 0, (2, 4), (4, 1)))
    assert_as_torch_reads(described(Storage(), 1, (2, 3), (2, 2)))
    assert_as_torch_reads(described(Storage(), 8, (0, 3), (3, 1)))


def test_storages_that_are_one(agents, tmp_path):
    """Members of a zip may lie in the same place: 400 of 1 MB, in a file of 1 MB."""
    n, numbers = 400, np.zeros(1 << 18, np.float32)
    buffer = io.BytesIO()
    th.save({str(i): th.zeros(1 << 18) for i in range(n)}, buffer)
    pickled = next(e.content for e in entries_of(buffer.getvalue()) if e.name.endswith("data.pkl"))
    names = [f"archive/data/{i:03}" for i in range(n)]
    pickled = b"".join(
        op if op[:1] != b"X" or not op[5:].isdigit() else b"X\3\0\0\0" + op[5:].zfill(3) for op in opcodes(pickled)[0]
    )
    one = zip_of([Entry("archive/data.pkl", pickled), Entry(names[0], numbers.tobytes())])
    start = one.index(b"PK\1\2")
    first = start + 46 + len("archive/data.pkl")
    record = one[first : first + 46 + len(names[0])]
    listed = one[start:first] + b"".join(record.replace(names[0].encode(), name.encode()) for name in names)
    content = one[:start] + listed + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, n + 1, n + 1, len(listed), start, 0)
    assert len(zipfile.ZipFile(io.BytesIO(content)).namelist()) == n + 1
    line = refusal(tmp_path, in_zip(agents[DQN], "policy.pth", content))
    assert "has a damaged member 'policy.pth': one of its storages has not the numbers that it claims" in line


def text_box(**entries):
    return {
        ":type:": "<class 'gymnasium.spaces.box.Box'>",
        "dtype": "float32",
        "_shape": [4],
        "low": "-1",
        "high": "1",
    } | entries


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        (text_box(_shape=[1 << 25]), "has a space of shape (33554432,), whose size is absurd"),
        (text_box(_shape=[0, 1 << 40]), "has a space of shape (0, 1099511627776), whose size is absurd"),
        (text_box(_shape=[10**4000] * 1_000), "whose size is absurd"),
        (text_box(_shape=[1] * 33), "whose size is absurd"),
        (text_box(dtype="V2000000000"), "has a space of the type 'V2000000000'"),
        (text_box(dtype="(9999,9999)f8"), "has a space of the type"),
        (text_box(low="1 " * 10**6), "has a space described by 2,000,000 characters"),
        ({":type:": "Discrete", "n": 1 << 40}, "has a space of [1099511627776.0] choices"),
        ({":type:": "MultiDiscrete", "nvec": "9999999 " * 1_000}, "choices"),
        ({":type:": "MultiBinary", "n": [1 << 12, 1 << 12]}, "whose size is absurd"),
        ({":type:": "x" * 10_000}, "has a space of kind xxx"),
    ],
    ids=lambda part: str(part)[:40],
)
@pytest.mark.parametrize("which", ["observation_space", "action_space"])
def test_absurd_spaces(agents, tmp_path, which, space, problem):
    """A few characters describe what fills the memory."""
    line = refusal(tmp_path, in_data(agents[DQN], **{which: space}))
    assert "cannot be read: it " in line
    assert problem in line


def test_a_space_of_many_parts(agents, tmp_path):
    """Each part of a Dict takes time."""
    many = spaces.Dict({str(i): spaces.Discrete(2) for i in range(1_200)})
    field = {
        ":type:": "<class 'gymnasium.spaces.dict.Dict'>",
        ":serialized:": base64.b64encode(pickle.dumps(many)).decode(),
    }
    assert "a Dict space of too many parts" in refusal(tmp_path, in_data(agents[DICT], observation_space=field))


def test_spaces_that_are_one(agents, tmp_path):
    """A pickle may give one large array to all parts of a Dict: 200 of a million numbers in 8 MB."""
    box = spaces.Box(-1.0, 1.0, (1 << 20,))
    many = spaces.Dict({str(i): box for i in range(200)})
    pickled = pickle.dumps(many)
    assert len(pickled) < 12 << 20
    field = {":type:": "<class 'gymnasium.spaces.dict.Dict'>", ":serialized:": base64.b64encode(pickled).decode()}
    assert "a Dict space of absurd size" in refusal(tmp_path, in_data(agents[DICT], observation_space=field))


@pytest.mark.parametrize(
    ("kwargs", "problem"),
    [
        ({"n_critics": 64, "net_arch": [64] * 64}, "n_critics=64, too many for 64 layers each"),
        ({"n_critics": 9, "net_arch": {"qf": [64] * 64}}, "n_critics=9, too many for 64 layers each"),
        ({"n_critics": 1 << 19}, "policy_kwargs has n_critics="),
        ({"n_lstm_layers": 1 << 19}, "policy_kwargs has n_lstm_layers="),
        ({"net_arch": "0x" + "f" * 9_000}, "policy_kwargs has net_arch="),
        ({"net_arch": "-" * 9_990}, "policy_kwargs has net_arch="),
    ],
    ids=lambda part: str(part)[:40],
)
def test_absurd_networks(agents, tmp_path, kwargs, problem):
    """Units cost nothing on paper, but layers do."""
    assert problem in refusal(tmp_path, in_data(agents[DQN], policy_kwargs=kwargs))


def test_a_policy_is_not_taken_for_another_kind(tmp_path):
    """SAC with one action has a network of the shapes that one discrete action would have, and cannot answer for it."""
    env = CountdownEnv(action_space=spaces.Box(-1.0, 1.0, (1,), np.float32))
    buffer = io.BytesIO()
    SAC("MlpPolicy", env, buffer_size=2, device="cpu", policy_kwargs={"net_arch": [4]}).save(buffer)
    files = {"agent.zip": buffer.getvalue()}
    assert fuzz.attempt(fuzz.load_and_ask, fuzz.write_agent(tmp_path, files)).result == "loaded"
    discrete = {":type:": "<class 'gymnasium.spaces.discrete.Discrete'>", "n": "2", "start": "0"}
    line = refusal(tmp_path, in_data(files, action_space=discrete))
    assert "do not fit the network it describes: a SACPolicy has no actions of kind Discrete" in line


def test_discrete_observations_are_counted_from_0(agents, tmp_path):
    """SB3's own encoding fails for others when it is asked, so nothing was trained on such."""
    space = {":type:": "<class 'gymnasium.spaces.discrete.Discrete'>", "n": "4", "start": "0"}
    folder = fuzz.write_agent(tmp_path, in_data(agents[DQN], observation_space=space))
    assert fuzz.attempt(fuzz.load_and_ask, folder).result == "loaded"
    line = refusal(tmp_path, in_data(agents[DQN], observation_space=space | {"start": "2"}))
    assert "SB3 cannot encode observations that are counted from another number than 0" in line


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &a {x: 1}\n" + "".join(f"a{k}: &a{k} {{<<: [*a, *a]}}\n" for k in range(500)) + "<<: *a499", "config.yml is not"),
        ("".join(f"l{k}: &l{k} [{', '.join([f'*l{k - 1}' if k else 'x'] * 9)}]\n" for k in range(30)) + "env_wrapper: *l29", "repeats"),
        ("".join(f"l{k}: &l{k} [{', '.join([f'*l{k - 1}' if k else 'x'] * 9)}]\n" for k in range(30)) + "frame_stack: *l29", "repeats"),
        ("env_kwargs: &a [*a]", "repeats itself"),
        ("frame_stack: " + ":".join(["59"] * 300_000), "it has more than"),
        ("frame_stack: " + ":".join(["59"] * 10_000), "frame_stack|integer string conversion"),
        ("a: [" + "a," * 400_000 + "]", "it has more than"),
    ],
    ids=["merge", "wrapper", "frames", "itself", "sexagesimal", "short sexagesimal", "list"],
)  # fmt: skip
def test_bombs_in_settings(agents, tmp_path, text, problem):
    """A small file that means a huge thing, or takes long to read."""
    line = refusal(tmp_path, agents[DQN] | {"config.yml": text.encode()})
    assert "config.yml is not a hyperparameter file of the RL Zoo: " in line
    assert any(part in line for part in problem.split("|"))


# --- statistics -------------------------------------------------------------------------------------------------------


class Attributes:
    """Pickles to an object of some class with some attributes."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


def statistics(**changed):
    """A vecnormalize.pkl of an agent with two parts of observations."""
    rms = Attributes(mean=np.zeros(5), var=np.ones(5), count=1.0)
    attributes = {
        "norm_obs": True,
        "norm_reward": False,
        "clip_obs": 10.0,
        "epsilon": 1e-8,
        "obs_rms": {"vec": rms},
        "ret_rms": rms,
    }
    return pickle.dumps(Attributes(**(attributes | changed)))


def of(mean, var):
    return Attributes(mean=np.asarray(mean, float), var=np.asarray(var, float))


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"obs_rms": {"vec": of(np.zeros(4), np.ones(4))}}, "of shape (4,) for 'vec', where the agent sees (5,)"),
        ({"obs_rms": {"vec": of(np.zeros(5), np.ones(1))}}, "of shape (5,) for 'vec'"),
        ({"obs_rms": {"vec": of(0.0, 1.0)}}, "of shape () for 'vec', where the agent sees (5,)"),
        ({"obs_rms": {"other": of(np.zeros(5), np.ones(5))}}, "for 'other', where the agent sees nothing"),
        ({"obs_rms": of(np.zeros(5), np.ones(5))}, "where the agent sees nothing"),
        ({"obs_rms": {"vec": of(np.full(5, np.nan), np.ones(5))}}, "not all of them are numbers"),
        ({"obs_rms": {"vec": of(np.zeros(5), np.full(5, np.inf))}}, "not all of them are numbers"),
        ({"obs_rms": {"vec": of(np.zeros(5), -np.ones(5))}}, "some of them are negative"),
        ({"epsilon": -1.0}, "some of them are negative"),
        ({"clip_obs": np.nan}, "not all of them are numbers"),
    ],
)
def test_statistics_of_other_observations(agents, tmp_path, changed, problem):
    """They would make an error, or no numbers, of the first observation."""
    assert problem in refusal(tmp_path, agents[DICT] | {"vecnormalize.pkl": statistics(**changed)})


def test_statistics_that_are_one(agents, tmp_path):
    """A pickle may give one large array to all parts of an observation."""
    part = of(np.zeros(1 << 20), np.ones(1 << 20))
    content = statistics(obs_rms={str(i): part for i in range(200)})
    assert len(content) < 17 << 20
    line = refusal(tmp_path, agents[DICT] | {"vecnormalize.pkl": content})
    assert "statistics of more than 4,194,304 numbers are too large" in line


def test_sound_statistics_load(agents, tmp_path):
    """Control of the test above."""
    fuzz.load_and_ask(fuzz.write_agent(tmp_path, agents[DICT] | {"vecnormalize.pkl": statistics()}))
    unbounded = agents[DICT] | {"vecnormalize.pkl": statistics(clip_obs=np.inf)}
    fuzz.load_and_ask(fuzz.write_agent(tmp_path, unbounded))


# --- reading what is sound --------------------------------------------------------------------------------------------


def plain(rng, depth=0):
    """Something made of what pickles hold without calling anything."""
    kind = rng.randrange(8 if depth < 4 else 5)
    if kind == 0:
        return rng.choice([None, True, False, 0.5, float("inf"), -0.0])
    if kind == 1:
        return rng.choice([0, 1, -1, 255, 256, 65_536, -(2**31), 2**31, 2**63, -(2**200)])
    if kind in (2, 3):
        return rng.choice(["", "a", "ü€😀" * rng.choice([1, 100]), "x" * 70_000])
    if kind == 4:
        return b"\x00\xff" * rng.choice([0, 1, 200, 40_000])
    parts = [plain(rng, depth + 1) for _ in range(rng.randrange(5))]
    if kind == 5:
        return parts
    return tuple(parts) if kind == 6 else {str(i): part for i, part in enumerate(parts)}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_are_read_as_python_reads_them(protocol):
    """In every protocol, with shared parts, and with bytes where a protocol has them."""
    rng = Random(protocol)
    for _ in range(100):
        thing = plain(rng)
        thing = [thing, thing, {"a": thing}]
        data = pickle.dumps(thing, protocol)
        if protocol > 2 or not pickled_names(data):  # bytes before protocol 3 are made by a call
            read = unpickle_inert(data)
            assert read == thing
            if isinstance(thing[0], (list, dict)):
                assert read[0] is read[1] is read[2]["a"]


def test_a_long_pickle_is_refused():
    """A limit that honest pickles do not reach."""
    assert unpickle_inert(pickle.dumps(list(range(MAX_OPCODES // 2)), 2))[-1] == MAX_OPCODES // 2 - 1
    with pytest.raises(ValueError, match="opcodes is too long to look into"):
        unpickle_inert(pickle.dumps(list(range(MAX_OPCODES)), 2))


def test_a_stand_in_tells_numpy_no_address():
    """Attributes come from the file: one by the name of __array_interface__ would be a pointer."""
    thing = Attributes(__array_interface__={"data": (1 << 20, False), "shape": (1,), "typestr": "<f8", "version": 3})
    stand_in = unpickle_inert(pickle.dumps(thing))
    assert "__array_interface__" in stand_in.state
    with pytest.raises((TypeError, AttributeError)):
        np.array(stand_in, dtype=float)
    with pytest.raises(AttributeError):
        _ = stand_in.__array_interface__


def assert_as_torch_reads(content):
    mine, theirs = read_weights(content), th.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    assert list(mine) == list(theirs)
    for name, expected in theirs.items():
        assert th.equal(mine[name], expected)
        assert (mine[name].dtype, mine[name].stride()) == (expected.dtype, expected.stride())


@pytest.mark.parametrize("form", [True, False], ids=["zip", "before torch 1.6"])
def test_weights_are_read_as_torch_reads_them(agents, form):
    """Types, views, shared storages, parameters, empty and single numbers; both formats."""
    base = th.arange(24.0).reshape(4, 6)
    weights = OrderedDict(
        base=base,
        row=base[1],
        column=base[:, 2],
        turned=base.t(),
        part=base[1:3, ::2],
        parameter=th.nn.Parameter(base * 2),
        single=th.tensor(3.5),
        empty=th.zeros(0, 3),
        **{
            str(dtype): th.arange(5).to(dtype)
            for dtype in (th.float64, th.float16, th.int64, th.int32, th.int16, th.uint8, th.int8)
        },
    )
    buffer = io.BytesIO()
    th.save(weights, buffer, _use_new_zipfile_serialization=form)
    assert_as_torch_reads(buffer.getvalue())
    assert_as_torch_reads(unpack("", agents[DQN]["agent.zip"])["policy.pth"])


def test_weights_are_memory_of_their_own(agents):
    """Nothing holds on to the file."""
    content = bytearray(unpack("", agents[DQN]["agent.zip"])["policy.pth"])
    weights = read_weights(bytes(content))
    assert all(w.is_contiguous() and w.untyped_storage().nbytes() == w.nbytes for w in weights.values())
    before = {name: w.clone() for name, w in weights.items()}
    for w in weights.values():
        w.mul_(2)
    assert all(th.equal(w, before[name] * 2) for name, w in weights.items())


@pytest.mark.zoo
def test_the_zoos_weights_are_read_as_torch_reads_them(zoo):
    """All of them; one is of the format before torch 1.6."""
    formats = set()
    paths = sorted(zoo.rglob("*.zip"))
    assert len(paths) >= 39
    for path in paths:
        content = unpack("", path.read_bytes())["policy.pth"]
        formats.add(content[:2])
        assert_as_torch_reads(content)
    assert formats == {b"PK", b"\x80\x02"}


@pytest.mark.parametrize("name", ["os.system", "torch._utils._rebuild_sparse_tensor", "a\x1b[2Jb.c"])
def test_what_weights_do_not_need_is_named(name):
    """As a name, and nothing that a terminal would obey."""
    module, _, function = name.rpartition(".")
    pickled = b"\x80\x04" + pickle.dumps(module)[2:-1] + pickle.dumps(function)[2:-1] + b"\x93)R."
    pickled = b"".join(opcodes(pickled)[0])
    with pytest.raises(MoreThanWeightsError) as error:
        read_weights(zip_of([Entry("archive/data.pkl", pickled)]))
    assert str(error.value) == name.replace("\x1b[", "??")
