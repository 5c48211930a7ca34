"""Each folder is a floor, and imports only point down; docs/architecture.md shows what there is."""

import sys

from tools import floors


def test_imports_only_point_down():
    assert [str(one) for one in floors.pointing_up(floors.modules())] == []


def test_an_import_that_points_up_is_seen_wherever_it_stands(tmp_path, monkeypatch):
    known = floors.modules()
    for name, text in {
        "at once": "from sb3_distill.algorithms import ppo",
        "lazy": "def f():\n    from sb3_distill.agents.load import load_teacher",
        "for types": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import sb3_distill.teachers.teacher",
    }.items():
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        found = floors.pointing_up(known | {"sb3_distill.common.files": path})
        assert [one.source for one in found] == ["sb3_distill.common.files"], name


def test_what_users_import_from_runs_nothing_from_above(tmp_path):
    path = tmp_path / "__init__.py"
    path.write_text("from sb3_distill.algorithms.ppo import NDistill")
    found = floors.pointing_up(floors.modules() | {"sb3_distill": path})
    assert [one.target for one in found] == ["sb3_distill.algorithms.ppo"]


def test_the_page_shows_the_floors():
    text = floors.PAGE.read_text(encoding="utf-8")
    assert text.partition(floors.BEGIN)[2].strip() == floors.page().strip(), "python -m tests.tools.floors writes it"


def test_no_module_is_called_like_one_of_the_standard_library():
    names = {path.stem for path in floors.modules().values()}
    assert names & sys.stdlib_module_names <= {"__init__"}
