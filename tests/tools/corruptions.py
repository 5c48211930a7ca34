"""Ways to damage a checkpoint, by accident or on purpose: what :mod:`tests.tools.fuzz` does to real ones.

A corruption is a function of a generator, the bytes at one place of an agent's files, and those at the same place of another
agent; it returns other bytes. A place may be within a file within a file: ``agent.zip / policy.pth / archive/data.pkl``.
"""

import base64
import contextlib
import io
import json
import pickle
import pickletools
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from random import Random
from typing import Any, NamedTuple

import torch as th

from sb3_distill.agents.saved_policy import ARGUMENTS

Files = dict[str, bytes]
Place = tuple[str, ...]
Corruption = Callable[[Random, bytes, bytes], bytes]

#: code in a checkpoint leaves a file of this name in the working directory, and so does the import of the module
CANARY, MODULE = "canary", "canary_module"
#: entries of a checkpoint's JSON that the loader looks at
READ = ("policy_class", "policy_kwargs", "observation_space", "action_space", "use_sde")

# --- files within files -----------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """A member of a zip, which may lie about itself."""

    name: str
    content: bytes
    method: int = zipfile.ZIP_STORED
    size: int | None = None
    crc: int | None = None


def zip_of(entries: list[Entry], copies: int = 1) -> bytes:
    """
    :param entries: in order; names may repeat
    :param copies: of the list of members
    :return: a zip
    """
    body, directory, start = [], [], 0
    for name, content, method, size, crc in entries:
        size, crc = len(content) if size is None else size, zlib.crc32(content) if crc is None else crc
        fields = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 33, crc, len(content), size, len(name.encode()), 0)
        directory.append(b"PK\1\2\x14\0" + fields + struct.pack("<HHHII", 0, 0, 0, 0, start) + name.encode())
        body.append(b"PK\3\4" + fields + name.encode() + content)
        start += len(body[-1])
    listed, n = b"".join(directory) * copies, min(len(entries) * copies, 0xFFFF)
    return b"".join(body) + listed + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, n, n, len(listed), start, 0)


def entries_of(content: bytes) -> list[Entry]:
    """:return: the members of a zip"""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [Entry(name, archive.read(name)) for name in archive.namelist()]


def unpack(name: str, content: bytes) -> Files:
    """
    :param name: of a file
    :param content: of that file
    :return: the members of a zip, the pickles in a ``data``; nothing for other files
    """
    if name == "data":
        fields = ((field, value) for field, value in json.loads(content).items() if field in READ)
        return {
            k: base64.b64decode(v[":serialized:"]) for k, v in fields if isinstance(v, dict) and ":serialized:" in v
        }
    return {entry.name: entry.content for entry in entries_of(content)} if content.startswith(b"PK") else {}


def repack(name: str, content: bytes, parts: Files) -> bytes:
    """The inverse of :func:`unpack`, with other parts."""
    if name != "data":
        return zip_of([Entry(*part) for part in parts.items()])
    data = json.loads(content)
    for field, pickled in parts.items():
        data[field][":serialized:"] = base64.b64encode(pickled).decode()
    return json.dumps(data).encode()


def edit(files: Files, place: Place, change: Callable[[bytes], bytes]) -> Files:
    """
    :param files: by name
    :param place: a name among them, and names within files
    :param change: of what is there
    :return: the files, with whatever contains that place packed anew
    """
    name, *below = place
    content = files[name]
    changed = repack(name, content, edit(unpack(name, content), tuple(below), change)) if below else change(content)
    return files | {name: changed}


def places(files: Files, above: Place = ()) -> Iterator[tuple[Place, bytes]]:
    """
    :param files: by name
    :param above: of what they are parts
    :return: every place that the loader may look at, with its content
    """
    for name, content in files.items():
        if not name.endswith(("optimizer.pth", "variables.pth", "tensors.pth", "system_info.txt")):
            yield (*above, name), content
            yield from places(unpack(name, content), (*above, name))


# --- any file ---------------------------------------------------------------------------------------------------------


def flip(rng: Random, content: bytes, other: bytes) -> bytes:
    """A few bytes become others, or many, or all of a stretch."""
    changed = bytearray(content or b"\0")
    for _ in range(rng.choice([1, 1, 2, 4, 100, 5_000])):
        changed[rng.randrange(len(changed))] ^= rng.randint(1, 255)
    start = rng.randrange(len(changed)) if rng.random() < 0.2 else len(changed)
    return bytes(changed[:start]) + rng.randbytes(len(changed) - start)


def truncate(rng: Random, content: bytes, other: bytes) -> bytes:
    """The end is missing, or the beginning, or everything."""
    end = int(len(content) * rng.choice([0, 0.001, 0.1, 0.9, 0.999, rng.random()]))
    return content[:end] if rng.random() < 0.8 else content[end + 1 :]


def move(rng: Random, content: bytes, other: bytes) -> bytes:
    """A piece is cut out, stands elsewhere, stands there twice, or comes from another agent."""
    start, end, to = sorted(rng.randrange(len(content) + 1) for _ in range(3))
    piece = other[start:end] if rng.random() < 0.3 else content[start:end]
    return content[:start] + content[end:to] + piece * rng.randint(0, 2) + content[to:]


def swap(rng: Random, content: bytes, other: bytes) -> bytes:
    """What another agent has there."""
    return other


# --- zips -------------------------------------------------------------------------------------------------------------

#: a record of a zip: where its methods, checksums, sizes and offsets are
_FIELDS = {b"PK\1\2": (10, 16, 20, 24, 28, 30, 42), b"PK\3\4": (8, 14, 18, 22, 26, 28), b"PK\5\6": (8, 10, 12, 16, 20)}


def zip_records(rng: Random, content: bytes, other: bytes) -> bytes:
    """A zip's own records: a byte in one of them, or one of its sizes, methods and offsets, which then lies."""
    records = list(re.finditer(rb"PK(?:\x01\x02|\x03\x04|\x05\x06)", content))
    record = rng.choice(records[-3:] if rng.random() < 0.5 else records)
    if rng.random() < 0.5:
        at = record.start() + rng.randrange(min(46, len(content) - record.start()))
        return content[:at] + bytes([content[at] ^ rng.randint(1, 255)]) + content[at + 1 :]
    at = record.start() + rng.choice(_FIELDS[record[0]])
    lie = struct.pack("<I", rng.choice([0, 1, 8, 12, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF, len(content)]))
    size = rng.choice([2, 4])
    return content[:at] + lie[:size] + content[at + size :]


def zip_members(rng: Random, content: bytes, other: bytes) -> bytes:
    """Members are missing, renamed, empty, there twice, in each other's place, or another agent's."""
    entries, theirs = entries_of(content), unpack("", other) or {"": b""}
    i, j = rng.randrange(len(entries)), rng.randrange(len(entries))
    name, content_of_j = entries[i].name, entries[j].content
    new_name = rng.choice(["", "/", f"../{name}", name.upper(), entries[j].name, "ü" * 9, "a" * 60_000])
    entries[i : i + 1] = rng.choice(
        [
            [],
            [entries[i]._replace(name=new_name)],
            [entries[i]._replace(content=b"")],
            [entries[i], entries[i]._replace(content=content_of_j)],
            [entries[i]._replace(content=content_of_j), entries[i]],
            [entries[i]._replace(content=theirs.get(name, rng.choice(list(theirs.values()))))],
        ]
    )
    return zip_of(entries)


@cache
def zeros(megabytes: int, method: int) -> bytes:
    """
    :param megabytes: of zeros
    :param method: of a zip
    :return: they, compressed
    """
    if method == zipfile.ZIP_DEFLATED:  # by repetition: gigabytes in no time
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        one = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
        return one * megabytes + compressor.flush()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, archive.open("0", "w", force_zip64=True) as member:
        for _ in range(megabytes):
            member.write(bytes(1 << 20))
    header = 30 + len("0") + 20
    return buffer.getvalue()[header:][: archive.infolist()[0].compress_size]


def zip_bomb(rng: Random, content: bytes, other: bytes) -> bytes:
    """A member unpacks to gigabytes, whatever it claims; or members are compressed that were not; or there are many."""
    entries = entries_of(content)
    used = [i for i, entry in enumerate(entries) if entry.name in ("data", "policy.pth") or "/data" in entry.name]
    i = rng.choice(used or [0])
    name, real = entries[i][:2]
    if rng.random() < 0.2:
        return zip_of([*entries, Entry("x", b"")], copies=rng.choice([2, 100, 30_000]))
    if rng.random() < 0.2:
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = compressor.compress(real) + compressor.flush()
        entries[i] = Entry(name, packed, zipfile.ZIP_DEFLATED, len(real), zlib.crc32(real))
        return zip_of(entries)
    method = rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
    megabytes = 3_000 if method == zipfile.ZIP_DEFLATED else 64
    size = rng.choice([megabytes << 20, len(real), 1, 1 << 24, 0xFFFFFFFF, 20 * len(content)])
    entries[i] = Entry(name, zeros(megabytes, method), method, size, zlib.crc32(real))
    return zip_of(entries)


# --- the JSON ---------------------------------------------------------------------------------------------------------

_ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2, 1.5, 1e308, float("nan"), float("inf"), 2**31, 2**63, 10**30, 10**4000, "", "x" * 10**6),
    *(
        [],
        {},
        [[]],
        [0],
        [1] * 70,
        [10**9] * 9,
        [0, 10**18],
        [8192, 8192],
        [1, 3000, 3000],
        ["a"],
        {"": {}},
        "ü\0\ud800",
    ),
    *({":serialized:": "!"}, {":serialized:": "gAROLg=="}, "1 " * 10**6, "9" * 5000, "inf -inf", "lambda: 0", "{1: 2}"),
    *("[" * 5000, "-" * 9000, "a" + ".a" * 4000, "0x" + "f" * 9000, "[64]*9", "dict(net_arch=[9])", "(9999,9999)f8"),
    *"nan 1e999 -0.0 object V2000000000 U99 M8[s] >f4 float16 bool int8 uint64 complex64".split(),
    *(f"<class 'gym.spaces.{kind}'>" for kind in "Box Dict Discrete MultiDiscrete MultiBinary Tuple".split()),
    *("<class 'torch.nn.modules.activation.ReLU'>", "<class 'stable_baselines3.common.torch_layers.NatureCNN'>"),
)


def json_value(rng: Random, content: bytes, other: bytes) -> bytes:
    """A value, mostly one that the loader reads, becomes an odd one, goes, gets another name or another's value."""
    data = json.loads(content)
    node, key = data, rng.choice(READ if rng.random() < 0.9 else list(data))
    while isinstance(node.get(key), dict) and node[key] and rng.random() < 0.8:
        node, key = node[key], rng.choice(list(node[key]))
    change = rng.randrange(5)
    if change == 0 and key in node:
        node[rng.choice([key.upper(), ":serialized:", "n", "shape"])] = node.pop(key)
    elif change == 1 and key in node:
        del node[key]
    elif change == 2:
        node[key] = json.loads(json.dumps(rng.choice(list(data.values()))))
    else:
        node[key] = rng.choice(_ODD) if rng.random() < 0.8 else [rng.choice(_ODD)] * rng.choice([1, 2, 20])
    return json.dumps(data).encode()


def json_absurd(rng: Random, content: bytes, other: bytes) -> bytes:
    """The text describes another network, or other spaces, than the weights are for; or it is very long."""
    data = json.loads(content)
    which = rng.random()
    if which < 0.4:
        sizes = [1, 64, 4096, 2**20, [64] * 64, [2**20] * 64, [0], [0, 64], {"pi": [9]}, True, rng.choice(_ODD)]
        data["policy_kwargs"] = {rng.choice(list(ARGUMENTS)): rng.choice(sizes) for _ in range(rng.randint(1, 3))}
    elif which < 0.8:
        space = data[rng.choice(["observation_space", "action_space"])]
        names = "n nvec _shape shape low high dtype start".split()
        space |= {name: rng.choice(_ODD) for name in rng.sample(names, 2)}
        space[":type:"] = rng.choice(["Box", "Discrete", "MultiDiscrete", "MultiBinary"])
        space |= {"n": rng.choice([1, 2, 3, 10**6, 2**26, 2**63]), "dtype": rng.choice(["float32", "uint8", "float64"])}
        space["_shape"] = rng.choice([[1], [2], [4096, 4096], [3, 2500, 2500], [], [2**25], [0, 2**40], [1] * 64])
        space |= {"low": rng.choice(["0", "-1"]), "high": rng.choice(["1", "inf"])}
    else:
        data["x"] = [rng.choice([[], {}, 0, ""])] * rng.choice([10**5, 4 * 10**6])
    return json.dumps(data).encode()


# --- pickles ----------------------------------------------------------------------------------------------------------


def opcodes(content: bytes) -> tuple[list[bytes], bytes]:
    """
    :param content: pickles, one after the other
    :return: their opcodes with arguments; and what comes after them. Frames are left out, since sizes will change
    """
    stream, found, start = io.BytesIO(content), [], 0
    with contextlib.suppress(Exception):
        while start < len(content):
            starts = [at or 0 for _, _, at in pickletools.genops(stream)]
            ends = [*starts[1:], stream.tell()]
            found += [content[a:b] for a, b in zip(starts, ends, strict=True) if content[a] != pickle.FRAME[0]]
            start = stream.tell()
    return found, content[start:]


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _object(name: str, value: bytes) -> bytes:
    """Something whose attributes, whatever the loader asks for, all have one value."""
    keys = ("mean", "var", "low", "high", "nvec", "n", "spaces", "_shape")
    return f"cx\n{name}\n)\x81".encode("latin1") + b"}(" + b"".join(_text(key) + value for key in keys) + b"ub"


def _array(size: int) -> bytes:
    """Numpy's array of that many bytes."""
    dtype = b"cnumpy\ndtype\nX\x02\0\0\0u1\x89\x88\x87R(K\x03X\x01\0\0\0|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R"
    length = struct.pack("<i", size)
    return made + b"(K\x01J" + length + b"\x85" + dtype + b"\x89B" + length + bytes(size) + b"tb"


def _dictionary(keys: list[bytes], value: bytes = b"N") -> bytes:
    return b"}(" + b"".join(key + value for key in keys) + b"u"


def _numbers(n: int) -> list[bytes]:
    return [b"J" + struct.pack("<i", k) for k in range(n)]


def _colliding(n: int) -> list[bytes]:
    return [b"\x8a\x10" + (k * (2**61 - 1)).to_bytes(16, "little") for k in range(n)]


#: a name, and what puts one object on the stack
PICKLE_BOMBS: dict[str, Callable[[], bytes]] = {
    "a memo of 2^30": lambda: b"Nr\0\0\0\x40",
    "a memo as long as the pickle": lambda: b"B\0\0\0\x02" + bytes(1 << 25) + b"r\0\0\0\x02",
    "2^62 bytes": lambda: b"\x8e" + bytes(7) + b"\x40",
    "2^62 letters": lambda: b"\x8d" + b"\xff" * 7 + b"\x7f",
    "a bytearray of 2^44": lambda: b"\x96" + bytes(5) + b"\x10\0\0",
    "a frame of 2^62": lambda: b"\x95" + b"\xff" * 7 + b"\x7fN",
    "digits": lambda: b"I" + b"9" * 100_000 + b"\n",
    "a long integer": lambda: b"\x8b\0\0\0\x01" + b"\x7f" * (1 << 24),
    "nested lists": lambda: b"]" * 100_000 + b"a" * 99_999,
    "nested tuples": lambda: b")" + b"\x85" * 200_000,
    "nested tuples for a key": lambda: b"})" + b"\x85" * 200_000 + b"Ns",
    "a tuple of 2^60": lambda: b"N" + b"2\x86" * 60,
    "a tuple of 2^60 for a key": lambda: b"}N" + b"2\x86" * 60 + b"Ns",
    "a tuple of 2^60 in a set": lambda: b"(N" + b"2\x86" * 60 + b"\x91",
    "a list of 2^60": lambda: b"]" + b"q\xfe0](h\xfeh\xfee" * 60,
    "a list that holds itself": lambda: b"]q\xfeh\xfea",
    "copies of a dictionary": lambda: (
        _dictionary(_numbers(20_000)) + b"q\xfe0](" + b"ccollections\nOrderedDict\nh\xfe\x85R" * 20_000 + b"e"
    ),
    "copies of a state": lambda: _dictionary(_numbers(20_000)) + b"q\xfe0](" + b"cx\ny\n)\x81h\xfeb" * 20_000 + b"e",
    "keys that collide": lambda: _dictionary(_colliding(60_000)),
    "millions of opcodes": lambda: b"N0" * (3 << 20) + b"N",
    "a large array": lambda: _array(1 << 25),
    "a large array, many times": lambda: (
        _array(1 << 23) + b"q\xfe0" + _dictionary([_text(str(k)) for k in range(500)], _object("Box", b"h\xfe"))
    ),
    "2^60 spaces": lambda: b"N" + (b"q\xfe0" + _object("Dict", _dictionary([_text("a"), _text("b")], b"h\xfe"))) * 60,
}

_CODE = f"touch {CANARY}"
_CANARIES = (
    b"cposix\nsystem\n" + _text(_CODE) + b"\x85R",
    _text("builtins") + _text("exec") + b"\x93" + _text(f"open({CANARY!r}, 'w').close()") + b"\x85R",
    b"(" + _text(_CODE) + b"iposix\nsystem\n",
    b"(cposix\nsystem\n" + _text(_CODE) + b"o",
    b"cbuiltins\nopen\n" + _text(CANARY) + _text("w") + b"\x86R",
    f"c{MODULE}\nThing\n".encode() + b")\x81",
)


def _insert(rng: Random, content: bytes, piece: bytes) -> bytes:
    """Pickles with a piece in place of a value, under a name of its own, or in place of everything."""
    ops, rest = opcodes(content)
    values = [i for i, op in enumerate(ops) if op[:1] in b"NIJKMGXCB\x88\x89\x8a\x8c"]
    settings = [i for i, op in enumerate(ops) if op == b"u"]
    how = rng.random()
    if how < 0.15 or not values:
        return b"\x80\x04" + piece + b"."
    if how < 0.5 or not settings:
        ops[rng.choice(values)] = piece
    else:
        names = "obs_rms ret_rms mean epsilon clip_obs norm_obs spaces low _shape dtype n".split()
        ops.insert(rng.choice(settings[-2:]), _text(rng.choice(names)) + piece)
    return b"".join(ops) + rest


def pickle_bomb(rng: Random, content: bytes, other: bytes) -> bytes:
    """A few bytes that ask for much memory or time."""
    return _insert(rng, content, PICKLE_BOMBS[rng.choice(list(PICKLE_BOMBS))]())


def pickle_canary(rng: Random, content: bytes, other: bytes) -> bytes:
    """What runs code, wherever it is unpickled."""
    return _insert(rng, content, rng.choice(_CANARIES))


def pickle_numbers(rng: Random, content: bytes, other: bytes) -> bytes:
    """Numbers lie: sizes, strides, offsets, shapes."""
    ops, rest = opcodes(content)
    numbers = [i for i, op in enumerate(ops) if op[:1] in b"JKMG\x8a"]
    for i in rng.sample(numbers, min(len(numbers), rng.choice([1, 1, 2, 5, 50]))):
        number = rng.choice([0, 1, -1, 2, 3, 255, 2**16, 2**31 - 1, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63), 2**80])
        ops[i] = pickle.dumps(rng.choice([number, number, number, float(number), float("nan"), None, "1"]), 2)[2:-1]
    return b"".join(ops) + rest if numbers else flip(rng, content, other)


def pickle_opcodes(rng: Random, content: bytes, other: bytes) -> bytes:
    """Opcodes go, come twice, change places, or become others."""
    ops, rest = opcodes(content)
    for _ in range(rng.randint(1, 3)):
        i, j = rng.randrange(len(ops)), rng.randrange(len(ops))
        random = rng.choice(pickletools.opcodes).code.encode("latin1")
        ops[i : i + 1] = rng.choice([[], [ops[i]] * 2, [ops[j]], [random], [random, ops[i]], [ops[i], b"0"]])
    return b"".join(ops) + rest


def weights_of(members: Files) -> dict[str, th.Tensor]:
    """:return: the weights among the members of a sound checkpoint"""
    return th.load(io.BytesIO(members["policy.pth"]), weights_only=True, map_location="cpu")  # type: ignore[no-any-return]


def claimed_sizes(rng: Random, content: bytes, other: bytes) -> bytes:
    """A wide network is claimed, of weights that repeat one number, are nowhere, or are sparse; or weights are views."""
    members = unpack("", content)
    weights = weights_of(members)
    hidden = next((w.shape[0] for w in weights.values() if w.ndim == 2), 1)
    made = rng.choice(
        [
            lambda shape, w: th.zeros(()).expand(shape),
            lambda shape, w: th.zeros(shape, device="meta"),
            lambda shape, w: th.sparse_coo_tensor(th.zeros(len(shape), 0), [], shape, check_invariants=True),
            None,
        ]
    )
    buffer = io.BytesIO()
    if made is None:
        th.save({name: w if w.ndim != 2 else w.t().contiguous().t() for name, w in weights.items()}, buffer)
        return repack("", b"", members | {"policy.pth": buffer.getvalue()})
    n = rng.choice([hidden, 10**4, 10**6])
    shapes = {name: tuple(n if d == hidden else d for d in w.shape) for name, w in weights.items()}
    th.save({name: made(shape, weights[name]) for name, shape in shapes.items()}, buffer)
    data = json.loads(members["data"])
    data["policy_kwargs"] = (data.get("policy_kwargs") or {}) | {"net_arch": [n] * 2}
    return repack("", b"", members | {"policy.pth": buffer.getvalue(), "data": json.dumps(data).encode()})


# --- settings ---------------------------------------------------------------------------------------------------------

_YAML_BOMBS = (
    "a: &a {x: 1}\n" + "".join(f"a{k}: &a{k} {{<<: [*a, *a], x{k}: 1}}\n" for k in range(999)),
    "".join(f"l{k}: &l{k} [{', '.join([f'*l{k - 1}' if k else 'x'] * 9)}]\n" for k in range(30)) + "KEY: *l29",
    "".join(f"m{k}: &m{k} {{a: {f'*m{k - 1}' if k else 1}, b: {f'*m{k - 1}' if k else 1}}}\n" for k in range(60)) + "KEY: *m59",
    *("&b [" * 999, "? " * 20_000, "- " * 20_000, "KEY: &a [*a]", "KEY: !!binary " + "A" * 10**5, "KEY: !!set {a, b}"),
    *("KEY: " + ":".join(["59"] * n) for n in (10_000, 300_000)),
    *("KEY: [" + "a," * n + "]" for n in (15_000, 400_000)),
    *("KEY: 0x" + "f" * 10**6, "KEY: " + "9" * 10**4, "KEY: 2001-99-99 99:99:99", "KEY: 1e99999999", "KEY: !!timestamp 1"),
    "!!python/object/apply:collections.OrderedDict\n- 1",
    "!!python/object/apply:collections.OrderedDict\n- &a\n" + "  - [a, 1]\n" * 999 + "- *a\n",
    "KEY: !!python/tuple {a: 1}",
    "? !!python/tuple [a]\n: 1",
)  # fmt: skip
_YAML_CANARIES = (
    f"KEY: !!python/object/apply:os.system ['{_CODE}']",
    f"KEY: !!python/object/new:os.system ['{_CODE}']",
    f"!!python/object/apply:builtins.exec [\"open('{CANARY}', 'w')\"]",
    f"KEY: !!python/name:{MODULE}.Thing",
    f"KEY: !!python/module:{MODULE}",
    f"KEY: !!python/object:{MODULE}.Thing {{}}",
    f"KEY: {MODULE}.Thing",
    f"KEY: \"__import__('os').system('{_CODE}')\"",
)
_YAML_KEYS = ("env_wrapper", "env_kwargs", "frame_stack", "normalize", "policy_kwargs", "x")
_YAML_VALUES = ("[1, {a: b}]", "gym.wrappers.Zork: {a: 1}", *"-1 .nan yes 1_0 0o7 ~ *a 'x 1000000000".split())


def yaml_bomb(rng: Random, content: bytes, other: bytes) -> bytes:
    """A small file that means a huge thing."""
    return rng.choice(_YAML_BOMBS).replace("KEY", rng.choice(_YAML_KEYS)).encode()


def yaml_canary(rng: Random, content: bytes, other: bytes) -> bytes:
    """Tags that make Python objects where they are obeyed, and names that are not to be imported."""
    return rng.choice(_YAML_CANARIES).replace("KEY", rng.choice(_YAML_KEYS)).encode()


def yaml_lines(rng: Random, content: bytes, other: bytes) -> bytes:
    """Lines go, come twice, change places; or there is another value."""
    lines = content.splitlines(keepends=True) or [b""]
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(len(lines))
        key, value = rng.choice(_YAML_KEYS), rng.choice(_YAML_VALUES)
        odd = (f"- - {key}\n  - {value}\n" if lines[0].startswith((b"-", b"!")) else f"{key}: {value}\n").encode()
        line, another = lines[i], rng.choice(lines)
        lines[i : i + 1] = rng.choice([[], [line] * 2, [another], [odd], [line, odd], [b"\t", line]])
        lines = lines or [b""]
    return b"".join(lines)


def json_canary(rng: Random, content: bytes, other: bytes) -> bytes:
    """Text that runs code where it is evaluated or imported."""
    text = rng.choice([f"__import__('os').system('{_CODE}')", f"{MODULE}.Thing", f"<class '{MODULE}.Thing'>"])
    data = json.loads(content)
    if rng.random() < 0.5:
        data["policy_kwargs"] = {rng.choice(list(ARGUMENTS)): text}
    else:
        data[rng.choice(READ[:1] + READ[2:4])][rng.choice([":type:", "dtype", "low", "n", "_shape"])] = text
    return json.dumps(data).encode()


# --- all of them ------------------------------------------------------------------------------------------------------


def _anywhere(name: str, content: bytes) -> bool:
    return True


def _zip(name: str, content: bytes) -> bool:
    return content.startswith(b"PK\3\4")


def _pickle(name: str, content: bytes) -> bool:
    return content.startswith(b"\x80") and "/data/" not in name  # the beginning of some weights


def _named(*names: str) -> Callable[[str, bytes], bool]:
    return lambda name, content: name in names


_json, _settings = _named("data"), _named("config.yml", "args.yml")

#: by name: which places it can damage, and how
CORRUPTIONS: dict[str, tuple[Callable[[str, bytes], bool], Corruption]] = {
    "bytes flipped": (_anywhere, flip),
    "truncated": (_anywhere, truncate),
    "pieces moved": (_anywhere, move),
    "another agent's": (_anywhere, swap),
    "zip: records": (_zip, zip_records),
    "zip: members": (_zip, zip_members),
    "zip: bombs": (_zip, zip_bomb),
    "JSON: values": (_json, json_value),
    "JSON: absurd": (_json, json_absurd),
    "JSON: canaries": (_json, json_canary),
    "pickle: opcodes": (_pickle, pickle_opcodes),
    "pickle: numbers": (_pickle, pickle_numbers),
    "pickle: bombs": (_pickle, pickle_bomb),
    "pickle: canaries": (_pickle, pickle_canary),
    "weights: claims": (_named("agent.zip"), claimed_sizes),
    "YAML: lines": (_settings, yaml_lines),
    "YAML: bombs": (_settings, yaml_bomb),
    "YAML: canaries": (_settings, yaml_canary),
}
#: those after which a zip's checksums leave two outcomes: the agent as it was, or none
CHECKED = ("bytes flipped", "truncated", "pieces moved", "zip: records")
