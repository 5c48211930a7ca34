"""The engines: SB3's on-policy algorithms that distil, each with the classes that fix a row of the table of methods.

The named classes, RL Zoo's names and the table of ``sb3-distill methods`` are methods × engines, and all are read from here.
"""

from types import ModuleType
from typing import Any, NamedTuple

from sb3_distill.algorithms import a2c, maskable_ppo, ppo, recurrent_ppo, trpo
from sb3_distill.algorithms.distillation import Distillation
from sb3_distill.algorithms.prepared_offline import STUDENTS
from sb3_distill.algorithms.settings import sb3_class


class Engine(NamedTuple):
    """One of SB3's on-policy algorithms, with distillation before it.

    :param name: what ``--engine`` takes
    :param algorithm: takes any row that the engine can serve, as ``method=``
    :param classes: from the names of rows to the classes that fix them
    :param suffix: of those classes' names in RL Zoo's scripts, after the row's
    """

    name: str
    algorithm: type[Distillation]
    classes: dict[str, type[Distillation]]
    suffix: str


def _engine(module: ModuleType, algorithm: type[Distillation], suffix: str = "") -> Engine:
    own = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, algorithm)]
    classes = {value.fixed_method: value for value in own if value.fixed_method is not None}
    return Engine(module.__name__.rpartition(".")[2], algorithm, classes, suffix)


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        _engine(ppo, ppo.DistillPPO),
        _engine(a2c, a2c.DistillA2C, "_a2c"),
        _engine(trpo, trpo.DistillTRPO, "_trpo"),
        _engine(recurrent_ppo, recurrent_ppo.DistillRecurrentPPO, "_recurrent_ppo"),
        _engine(maskable_ppo, maskable_ppo.DistillMaskablePPO, "_maskable_ppo"),
    )
}


def sibling(algorithm: Any, engine: str) -> str:
    """
    :param algorithm: a class of students
    :param engine: the name of another engine
    :return: the name of the class that has the same row with that one; of the engine's own class where there is none
    """
    found = ENGINES[engine]
    return found.classes.get(algorithm.fixed_method or "", found.algorithm).__name__


def loading_class(engine: str) -> type:
    """
    :param engine: of a run, policy distillation's ``"dqn"`` among them
    :return: the class of SB3 or sb3-contrib that loads the student
    :raises KeyError: for a name that there is not
    """
    return sb3_class(ENGINES[engine].algorithm) if engine in ENGINES else STUDENTS[engine][0]


def method_classes() -> dict[str, list[str]]:
    """
    :return: from the names of rows to those of the classes that fix them, on all engines
    """
    classes: dict[str, list[str]] = {}
    for engine in ENGINES.values():
        for row, algorithm in engine.classes.items():
            classes.setdefault(row, []).append(algorithm.__name__)
    return classes


def zoo_names() -> dict[str, type[Distillation]]:
    """
    :return: from the names of RL Zoo's ``--algo`` to classes
    """
    return {
        f"{row}{engine.suffix}": algorithm for engine in ENGINES.values() for row, algorithm in engine.classes.items()
    }
