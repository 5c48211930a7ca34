"""The floors of the house, read from the imports. ``python -m tests.tools.floors`` writes them to docs/architecture.md."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
#: from the ground up: a floor may import from itself and from those before it
FLOORS = (
    *("common", "envs", "rules", "students", "evaluation", "teachers", "agents", "wrappers", "memory", "algorithms"),
    *("tabular", "experiment", "exporting", "study", "zoo", "cli", "the roof"),
)
#: what users import from: names of all floors, brought when they are asked for, so that importing them runs nothing from above
ROOF = ("sb3_distill", "sb3_distill.envs")
#: where the generated part of the page begins
BEGIN = "<!-- python -m tests.tools.floors -->\n"


class Import(NamedTuple):
    """One import statement, of one module."""

    source: str
    target: str
    line: int
    #: whether it runs when the module is imported: not in a function, not for a type checker alone
    at_once: bool

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def modules() -> dict[str, Path]:
    """:return: from the names of all installed modules to their files"""
    found = {}
    for package, folder in (("sb3_distill", "sb3_distill"), ("sb3_distill.envs", "envs"), ("sb3_distill.zoo", "zoo")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if "benchmarks" not in parts:
                found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


def floor_of(module: str) -> str:
    """:return: the floor that a module stands on"""
    if module in ROOF:
        return "the roof"
    first, *more = module.split(".")[1:]
    return first if more or first in FLOORS else "the roof"


def imports(module: str, known: dict[str, Path]) -> Iterator[Import]:
    """:return: all imports of a module of ours, wherever they stand in it"""
    tree = ast.parse(known[module].read_text(encoding="utf-8"))
    later = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.Lambda))
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    ]
    not_at_once = {id(inner) for node in later for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} is relative"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [name if name in known else str(node.module) for name in inner]
        else:
            continue
        for target in targets:
            if target in known:
                yield Import(module, target, node.lineno, id(node) not in not_at_once)


def pointing_up(known: dict[str, Path]) -> list[Import]:
    """
    :return: imports of what stands higher, lazy and type-checking ones too. Importing a module runs the packages that it is in:
        what these import at once must not be higher than they stand. What the roof names without running it is no import
    """
    found = []
    for module in known:
        for one in imports(module, known):
            standing = "common" if module in ROOF and one.at_once else floor_of(module)
            if FLOORS.index(floor_of(one.target)) > FLOORS.index(standing):
                found.append(one)
    return found


def first_sentence(path: Path) -> str:
    """:return: of a module's docstring, in one line"""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".:") + "."


def page() -> str:
    """:return: the generated part of docs/architecture.md: the floors from the roof down, one line a file"""
    known = modules()
    lines = []
    for floor in reversed(FLOORS):
        here = {module: path for module, path in known.items() if floor_of(module) == floor}
        packages = [path for path in here.values() if path.name == "__init__.py"]
        lines += [f"## {floor}", "", *([first_sentence(packages[0]), ""] if packages and floor != "the roof" else [])]
        lines += [
            f"* `{path.relative_to(ROOT)}`: {first_sentence(path)}"
            for path in here.values()
            if floor == "the roof" or path not in packages
        ]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text[: text.index(BEGIN)] + BEGIN + "\n" + page(), encoding="utf-8")
