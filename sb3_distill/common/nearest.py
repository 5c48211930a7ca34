"""Names that are like one that there is not."""

import difflib
from collections.abc import Iterable


def nearest(name: str, choices: Iterable[str], limit: int = 50) -> str:
    """
    The end of an error message about an unknown name.

    :param name: what was given
    :param choices: what could have been
    :param limit: how many choices are listed at most
    :return: a sentence with the nearest matches, or with all choices if nothing is near
    """
    choices = list(choices)
    near = matches(name, choices)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    more = f" and {len(choices) - limit} more" if len(choices) > limit else ""
    return f"choose one of {', '.join(choices[:limit])}{more}."


def matches(name: str, choices: Iterable[str]) -> list[str]:
    """
    :param name: what was given
    :param choices: what could have been
    :return: the three nearest at most, best first; small and capital letters are the same
    """
    known: dict[str, list[str]] = {}
    for choice in choices:
        known.setdefault(choice.lower(), []).append(choice)
    near = difflib.get_close_matches(name.lower(), list(known), n=3)
    return [choice for key in near for choice in known[key]][:3]
