"""Scores, and tables of them."""

import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from sb3_distill.evaluation.episodes import standard_error


class Score(NamedTuple):
    """The mean return of some episodes.

    :param mean: over the episodes
    :param standard_error: of that mean
    :param n_episodes: how many
    :param n_cut: how many of them did not come to their end
    """

    mean: float
    standard_error: float
    n_episodes: int
    n_cut: int = 0

    def __str__(self) -> str:
        return f"{self.mean:,.1f} ± {self.standard_error:,.1f}"


def score(returns: np.ndarray, n_cut: int = 0) -> Score:
    """
    :param returns: of episodes; of one, nobody knows how sure its return is
    :param n_cut: how many of them did not come to their end
    :return: their mean and how sure it is
    """
    return Score(float(returns.mean()), standard_error(returns), len(returns), n_cut)


class Player(NamedTuple):
    """Somebody whose play is compared with others'; what does not apply is None.

    :param name: teacher, student, …
    :param returns: of the episodes that all play
    :param parameters: how many numbers pick the actions
    :param steps: environment steps of the training
    :param seconds: of the training
    :param n_cut: how many of the episodes did not come to their end
    """

    name: str
    returns: np.ndarray
    parameters: int | None = None
    steps: int | None = None
    seconds: float | None = None
    n_cut: int = 0


def result_table(players: Iterable[Player], title: str | None = None, teacher_parameters: int | None = None) -> Table:
    """
    Compare players.

    :param players: a line for each
    :param title: above the table
    :param teacher_parameters: what sizes are compared with
    :return: something for rich's ``Console.print``
    """
    table = Table(title=title, title_justify="left")
    table.add_column("player", no_wrap=True)
    for header in ("return ± standard error", "parameters", "size", "environment steps", "seconds"):
        table.add_column(header, justify="right")
    for player in players:
        table.add_row(
            player.name,
            f"{score(player.returns)}{f', {player.n_cut} cut' if player.n_cut else ''}",
            "—" if player.parameters is None else f"{player.parameters:,}",
            size_ratio(player.parameters, teacher_parameters),
            "—" if player.steps is None else f"{player.steps:,}",
            "—" if player.seconds is None else f"{player.seconds:.1f}",
        )
    return table


def show(table: Table) -> None:
    """:param table: to be printed"""
    # What is piped into a file or a pager is not folded to the 80 columns that rich assumes there.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def result_data(players: Iterable[Player]) -> dict[str, dict[str, Any]]:
    """
    :param players: as in :func:`result_table`
    :return: the same for :func:`~sb3_distill.common.files.write_json`, with every episode's return
    """
    data = {}
    for player in players:
        mean, error, *_ = score(player.returns)
        data[player.name] = {
            "mean_return": mean,
            "standard_error": error,
            "parameters": player.parameters,
            "training_steps": player.steps,
            "training_seconds": player.seconds,
            "returns": player.returns.tolist(),
            "episodes_cut": player.n_cut,
        }
    return data


def size_ratio(parameters: int | None, teacher_parameters: int | None) -> str:
    """
    :param parameters: a player's
    :param teacher_parameters: its teacher's
    :return: how many times smaller or larger it is, in words for tables
    """
    if parameters is None or not teacher_parameters:  # a rule has none
        return "—"
    if parameters == teacher_parameters:
        return "1×"
    if parameters < teacher_parameters:
        return f"{teacher_parameters / parameters:.1f}× smaller"
    return f"{parameters / teacher_parameters:.1f}× larger"
