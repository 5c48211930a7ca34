"""Reads the structure of pickles without running them.

A pickle is a program for a small machine with a stack: loading it imports what it names and calls that. Here is such a machine
that can do neither. Names stay names, calls are written down, and so the *structure* of the saved object can be read (spaces,
running statistics, weights), and the list of names that a real load would have imported. Python's own machine, even with
harmless stand-ins for all names, copies, compares and hashes as the pickle tells it to: some hundred bytes fill the memory,
run for ever, or overflow the interpreter's stack.
"""

import io
import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

#: bytes, and opcodes, of the largest pickle that is looked into; numbers in the largest array
MAX_PICKLE, MAX_OPCODES, MAX_NUMBERS = 1 << 26, 1 << 17, 1 << 22


class Name:
    """
    What a pickle asks to be imported.

    :param name: qualified
    """

    def __init__(self, name: str) -> None:
        self.name = name


class Inert:
    """
    What a pickle makes by a call: nothing is called, and its attributes are those of the state that it was given.

    :param called: the qualified name
    :param arguments: of the call
    """

    def __init__(self, called: str, arguments: Any = ()) -> None:
        self.called, self.arguments = called, arguments
        self.state: Any = {}

    def __getattr__(self, name: str) -> Any:
        state = self.__dict__.get("state")
        # Python and numpy ask for such names to learn what an object can do: __array_interface__ would be an address.
        if isinstance(state, dict) and name in state and not name.startswith("__"):
            return state[name]
        raise AttributeError(f"a {self.__dict__.get('called', '')[-80:]!r} has no {name!r}")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """If it is an array or a scalar of numpy's: a copy of the numbers."""
        numbers, shape, fortran, data = self._as_array()
        if not isinstance(numbers, Inert) or numbers.called != "numpy.dtype":
            raise TypeError("an array without a dtype")
        kind: Any = numbers.arguments[0]
        order: Any = numbers.state[1] if numbers.state else "="
        if not isinstance(kind, str) or not re.fullmatch("b1|[iu][1248]|f[248]", kind):
            raise ValueError(f"an array of {kind[:20] if isinstance(kind, str) else ''!r} holds no plain numbers.")
        array = np.frombuffer(data, np.dtype(kind).newbyteorder(order))
        if array.size > MAX_NUMBERS:
            raise ValueError(f"an array of {array.size:,} numbers is too large.")
        return array.reshape(shape, order="F" if fortran else "C").astype(dtype)

    def _as_array(self) -> tuple[Any, Any, bool, Any]:
        """Its dtype, shape, whether columns come first, and bytes."""
        function = re.sub(r"^numpy\._?core\.", "", self.called)
        if function == "multiarray._reconstruct":
            _, shape, numbers, fortran, data = self.state
        elif function == "multiarray.scalar":
            (numbers, data), shape, fortran = self.arguments, (), False
        elif function == "numeric._frombuffer":
            data, numbers, shape, order = self.arguments
            fortran = order == "F"
        else:
            raise TypeError(f"a {self.called[-80:]} is no number and no array.")
        if isinstance(data, Inert) and data.called == "_codecs.encode" and data.arguments[1:] == ("latin1",):
            data = data.arguments[0].encode("latin1")  # how pickles of protocol 2, which torch writes, hold bytes
        return numbers, shape, fortran, data


class _OddKey:
    """A key that is no text. Such are not hashed: a tuple may hold itself 2^60 times, and integers may all collide."""


#: opcodes that put their argument on the stack
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE"),
    *("BINUNICODE", "BINUNICODE8"),
}
#: opcodes that put something new on the stack. Sets become lists
_NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
#: calls that are understood, of what else would be Inert; dictionaries are filled later
_CALLS: dict[str, Callable[[Any], Any]] = {
    "collections.OrderedDict": lambda arguments: {},
    "collections.defaultdict": lambda arguments: {},
    "collections.deque": lambda arguments: arguments[0] if arguments and isinstance(arguments[0], list) else [],
}


class InertUnpickler:
    """
    Reads pickles, one after the other.

    :param data: a pickle, and what comes after it
    :raises ValueError: if it is too large to look into
    """

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_PICKLE:
            raise ValueError(f"a pickle of {len(data):,} bytes is too large to look into.")
        #: what is read next
        self.stream = io.BytesIO(data)
        #: what a real load would have imported, in order
        self.names: list[str] = []
        #: what torch calls its storages, which are outside the pickle
        self.identities: list[Any] = []
        self._opcodes_left = MAX_OPCODES

    def load(self) -> Any:
        """
        :return: the structure that the next pickle describes
        :raises ValueError: if it is truncated or too long; a hostile pickle may raise anything else
        """
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        for opcode, argument, _ in pickletools.genops(self.stream):
            self._opcodes_left -= 1
            if self._opcodes_left < 0:
                raise ValueError(f"a pickle of more than {MAX_OPCODES:,} opcodes is too long to look into.")
            if opcode.name in _LITERALS:
                self._stack.append(argument)
            elif opcode.name in _NEW:
                self._stack.append(_NEW[opcode.name]())
            elif opcode.name in _STEPS:
                _STEPS[opcode.name](self, argument)
            else:
                raise ValueError(f"its pickle has an opcode {opcode.name}.")
        return self._stack.pop()

    # --- the stack

    def _above_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _pop(self, _: Any) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def _last(self, n: int) -> list[Any]:
        if len(self._stack) < n:
            raise ValueError("its pickle takes more from the stack than there is.")
        items = self._stack[len(self._stack) - n :]
        del self._stack[len(self._stack) - n :]
        return items

    def _put(self, key: Any) -> None:
        self._memo[len(self._memo) if key is None else key] = self._stack[-1]

    def _get(self, key: Any) -> None:
        self._stack.append(self._memo[key])

    # --- containers

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(items)

    def _set_items(self, items: list[Any]) -> None:
        if isinstance(self._stack[-1], dict):
            self._stack[-1].update(_dict(items))

    # --- names and calls

    def _import(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("its pickle imports something without a name.")
        self.names.append(f"{module}.{name}")
        self._stack.append(Name(self.names[-1]))

    def _call(self, called: Any, arguments: Any) -> None:
        name = called.name if isinstance(called, Name) else ""
        self._stack.append(_CALLS[name](arguments) if name in _CALLS else Inert(name, arguments))

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        if isinstance(self._stack[-1], Inert):
            # Not copied: a pickle may give one large state to many objects.
            self._stack[-1].state = state

    def _instance(self, argument: str) -> None:
        arguments = tuple(self._above_mark())
        self._import(*argument.split(" ", 1))
        self._call(self._stack.pop(), arguments)

    def _object(self, _: Any) -> None:
        called, *arguments = self._above_mark()
        self._call(called, tuple(arguments))

    def _persistent(self, identity: Any) -> None:
        self.identities.append(identity)
        self._stack.append(Inert("persistent", identity))


def _dict(items: list[Any]) -> dict[Any, Any]:
    """A dictionary of keys and values in turns."""
    return {
        key if isinstance(key, str) else _OddKey(): value for key, value in zip(items[::2], items[1::2], strict=True)
    }


#: all other opcodes
_STEPS: dict[str, Callable[[InertUnpickler, Any], Any]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda self, _: None),
    "MARK": InertUnpickler._mark,
    "POP": InertUnpickler._pop,
    "POP_MARK": lambda self, _: self._above_mark(),
    "DUP": lambda self, _: self._stack.append(self._stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), InertUnpickler._put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), InertUnpickler._get),
    **dict.fromkeys(("LIST", "FROZENSET"), lambda self, _: self._stack.append(self._above_mark())),
    "TUPLE": lambda self, _: self._stack.append(tuple(self._above_mark())),
    "TUPLE1": lambda self, _: self._stack.append(tuple(self._last(1))),
    "TUPLE2": lambda self, _: self._stack.append(tuple(self._last(2))),
    "TUPLE3": lambda self, _: self._stack.append(tuple(self._last(3))),
    "DICT": lambda self, _: self._stack.append(_dict(self._above_mark())),
    "APPEND": lambda self, _: self._extend(self._last(1)),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda self, _: self._extend(self._above_mark())),
    "SETITEM": lambda self, _: self._set_items(self._last(2)),
    "SETITEMS": lambda self, _: self._set_items(self._above_mark()),
    "GLOBAL": lambda self, argument: self._import(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda self, _: self._import(*self._last(2)),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda self, _: self._call(*self._last(2))),
    "NEWOBJ_EX": lambda self, _: self._call(*self._last(3)[:2]),
    "BUILD": InertUnpickler._build,
    "INST": InertUnpickler._instance,
    "OBJ": InertUnpickler._object,
    "PERSID": InertUnpickler._persistent,
    "BINPERSID": lambda self, _: self._persistent(self._stack.pop()),
}


def unpickle_inert(data: bytes) -> Any:
    """
    :param data: a pickle
    :return: the structure that it describes
    :raises ValueError: if it is truncated, too large or too long; a hostile pickle may raise anything else
    """
    return InertUnpickler(data).load()


def pickled_names(data: bytes) -> list[str]:
    """
    What loading a pickle would import, each name once.

    :param data: a pickle
    :return: qualified names, in order; those before the damage of a damaged pickle
    """
    names: list[str] = []
    try:
        unpickler = InertUnpickler(data)
        names = unpickler.names
        unpickler.load()
    except Exception:  # noqa: S110 - damaged: the names that were met are the answer
        pass
    return list(dict.fromkeys(names))


def numeric(value: Any) -> np.ndarray:
    """
    :param value: a number or array, of a pickle or live
    :return: a float64 array of our own
    :raises TypeError: for anything else: a list that holds itself many times over would fill the memory
    """
    if not isinstance(value, (Inert, np.ndarray, np.generic, int, float)):
        raise TypeError(f"a {type(value).__name__} is no number and no array.")
    return value.__array__(np.float64) if isinstance(value, Inert) else np.array(value, dtype=np.float64)
