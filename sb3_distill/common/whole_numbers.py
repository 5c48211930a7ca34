"""Whole numbers that are given in Python, checked before any work."""

from numbers import Integral
from typing import Any


def check_whole(name: str, value: Any, least: int) -> None:
    """
    :param name: of an argument
    :param value: of it
    :param least: that it may be
    :raises ValueError: if it is no whole number, or less than that
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        is_written_otherwise = isinstance(value, float) and value.is_integer() and value >= least
        hint = f", which is a float: write {int(value):_}" if is_written_otherwise else ""
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}{hint}.")
