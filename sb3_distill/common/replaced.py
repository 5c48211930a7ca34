"""A method of one object, replaced for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(thing: Any, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """
    A context in which one object has another method; afterwards it is as it was, whatever happens.

    :param thing: the object; its class is left alone
    :param name: of the method
    :param method: what to call instead
    """
    own = vars(thing).get(name)
    setattr(thing, name, method)
    try:
        yield
    finally:
        if own is None:
            delattr(thing, name)
        else:
            setattr(thing, name, own)
