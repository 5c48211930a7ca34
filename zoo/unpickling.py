"""Looks into pickles without running them.

A pickle is a program: loading it imports what it names and calls it. Here a pickle gets stand-ins for every name that it
asks for. They keep what they are told and do nothing, so the *structure* of the saved object can be read (spaces,
running statistics), and so can the list of names that a real load would have imported.
"""

import io
import pickle
import pickletools
import re
from typing import Any

import numpy as np

#: bytes of the largest pickle that is looked into
MAX_PICKLE = 1 << 26


class Inert:
    """Stands in for whatever a pickle asks for: keeps attributes and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass


class InertDtype:
    """
    Stands in for a ``numpy.dtype``, which would believe any flags that the pickle tells it, and then take numbers for
    pointers.
    """

    def __init__(self, kind: str, *_: Any) -> None:
        self.kind, self.order = kind, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class InertArray:
    """Stands in for a numpy array or scalar; becomes one when it is asked for, if it is one of plain numbers."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        _, shape, numbers, fortran, data = self.state
        if not re.fullmatch("b1|[iu][1248]|f[248]", numbers.kind):
            raise ValueError(f"an array of {numbers.kind!r} holds no plain numbers.")
        array = np.frombuffer(data, np.dtype(numbers.kind).newbyteorder(numbers.order))
        return array.reshape(shape, order="F" if fortran else "C").astype(dtype)

    @classmethod
    def scalar(cls, dtype: InertDtype, data: bytes) -> "InertArray":
        array = cls()
        array.state = (1, (), dtype, False, data)
        return array

    @classmethod
    def frombuffer(cls, data: Any, dtype: InertDtype, shape: Any, order: str, *_: Any) -> "InertArray":
        array = cls()
        array.state = (1, shape, dtype, order == "F", data)
        return array


def _items(items: Any = (), maxlen: Any = None) -> list[Any]:
    """Stands in for a ``collections.deque``."""
    return items if isinstance(items, list) else []


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): InertDtype,
    ("collections", "OrderedDict"): dict,
    ("collections", "deque"): _items,
}
for _core in ("numpy.core", "numpy._core"):
    _STAND_INS[_core + ".multiarray", "_reconstruct"] = InertArray
    _STAND_INS[_core + ".multiarray", "scalar"] = InertArray.scalar
    _STAND_INS[_core + ".numeric", "_frombuffer"] = InertArray.frombuffer


class InertUnpickler(pickle.Unpickler):
    """
    Unpickles stand-ins.

    :param data: a pickle
    :raises ValueError: if it is truncated, too large, or would fill the memory by its own bookkeeping
    """

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_PICKLE:
            raise ValueError(f"a pickle of {len(data):,} bytes is too large to look into.")
        for opcode, argument, _ in pickletools.genops(data):
            # The memo is a table as long as its largest index: 5 bytes could ask for 64 GB.
            if "PUT" in opcode.name and argument is not None and argument > len(data):
                raise ValueError(f"its pickle files an object under {argument}, beyond its own length.")
        super().__init__(io.BytesIO(data))
        #: what a real load would have imported, in order
        self.names: list[str] = []

    def persistent_load(self, pid: Any) -> Any:
        return Inert()  # torch keeps its storages outside the pickle

    def find_class(self, module: str, name: str) -> Any:
        self.names.append(f"{module}.{name}")
        return _STAND_INS.get((module, name)) or type(name.rpartition(".")[2], (Inert,), {"__module__": module})


def unpickle_inert(data: bytes) -> Any:
    """
    :param data: a pickle
    :return: the structure that it describes, of stand-ins
    :raises ValueError: if it is truncated or too large; a hostile pickle may raise anything else
    """
    return InertUnpickler(data).load()


def pickled_names(data: bytes) -> list[str]:
    """
    What loading a pickle would import, each name once.

    :param data: a pickle
    :return: qualified names, in order; those before the damage of a damaged pickle
    """
    try:
        unpickler = InertUnpickler(data)
    except Exception:  # damaged: pickletools raises whatever it trips over
        return []
    try:
        unpickler.load()
    except Exception:  # noqa: S110 - the names that were met are the answer
        pass
    return list(dict.fromkeys(unpickler.names))


def numeric(value: Any) -> np.ndarray:
    """
    :param value: a number or array, of a pickle or live
    :return: a float64 array of our own
    :raises TypeError: for anything else: a list that holds itself many times over would fill the memory
    """
    if not isinstance(value, (InertArray, np.ndarray, np.generic, int, float)):
        raise TypeError(f"a {type(value).__name__} is no number and no array.")
    return np.array(value, dtype=np.float64)
