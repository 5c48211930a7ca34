"""YAML as plain values, with the line that each of them stands in. No tag of a file makes an object."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sb3_distill.study.faults import Fault, StudyError

#: from the keys and indices that lead to a value to its line
Lines = dict[tuple[str | int, ...], int]
#: bytes of the longest file, which somebody else may have written
LONGEST = 1 << 20
#: values of the largest file, those counted twice to which two places refer
MOST_VALUES = 100_000
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
#: 010 would be 8, and 1:30 would be 90
_OTHER_BASES = re.compile(r"[-+]?0[0-9_]+|.*:.*")
#: levels of the deepest
DEEPEST = 12


class Read(NamedTuple):
    """
    What a file says.

    :param data: plain values
    :param lines: where they stand
    """

    data: Any
    lines: Lines


def read_yaml(path: Path) -> Read:
    """
    :param path: of a file
    :return: what it says
    :raises StudyError: if it is no YAML, has a tag, or a key twice
    :raises OSError: if it cannot be read
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name the study's file.")
    if path.stat().st_size > LONGEST:
        raise StudyError(str(path), [Fault(0, f"it has more than {LONGEST:,} bytes, which no study needs.")])
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(str(path), [Fault(0, f"it is no text in UTF-8 ({error.reason}).")]) from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        said = getattr(error, "problem", None) or " ".join(str(error).split())
        raise StudyError(str(path), [Fault(0 if mark is None else mark.line + 1, f"no YAML: {said}.")]) from error
    except RecursionError as error:
        raise StudyError(str(path), [Fault(0, f"it is more than {DEEPEST} levels deep.")]) from error
    reader = _Reader()
    data = None if node is None else reader.value(node, ())
    if reader.faults:
        raise StudyError(str(path), reader.faults)
    return Read(data, reader.lines)


class _Reader:
    """From nodes to values."""

    def __init__(self) -> None:
        self.lines: Lines = {}
        self.faults: list[Fault] = []
        self._scalars = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        line = node.start_mark.line + 1
        self.lines[path] = line
        if len(self.lines) > MOST_VALUES or len(path) > DEEPEST:
            text = f"more than {DEEPEST} levels or {MOST_VALUES:,} values: no study needs them."
            if not self.faults or self.faults[-1].text != text:
                self.faults.append(Fault(line, text))
            return None
        if not node.tag.startswith("tag:yaml.org,2002:") or ":python/" in node.tag:
            self.faults.append(Fault(line, f"the tag {node.tag!r} makes objects: studies are of plain values."))
            return None
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, k)) for k, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        return self._scalar(node, line)

    def _scalar(self, node: yaml.Node, line: int) -> Any:
        if node.tag in _NUMBERS and _OTHER_BASES.fullmatch(node.value):
            self.faults.append(
                Fault(
                    line,
                    f"{node.value} is a number of another base to YAML: write it without leading zeros and colons.",
                )
            )
            return None
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            said = getattr(error, "problem", None) or str(error)
            self.faults.append(Fault(line, f"{node.value!r} cannot be read: {said}."))
            return None

    def _mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                self.faults.append(Fault(line, "merge keys, <<, are not known: write the settings out."))
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self.faults.append(Fault(line, "a key must be text."))
                continue
            key, here = key_node.value, (*path, key_node.value)
            if key in data:
                self.faults.append(Fault(line, f"{key!r} is there twice, first in line {self.lines[here]}."))
                continue
            data[key] = self.value(value_node, here)
            self.lines[here] = line
        return data
