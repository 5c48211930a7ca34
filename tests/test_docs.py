"""The pages build without warnings, and lack no public name and no figure."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx")

import sb3_distill
from sb3_distill import envs
from sb3_distill.tabular.commands import FIGURES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(folder / "doctrees"), str(DOCS)]
    done = subprocess.run([*command, str(folder / "html")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_every_public_name_is_in_the_api(site):
    page = (site / "api.html").read_text(encoding="utf-8")
    for module in (sb3_distill, envs):
        for name in module.__all__:
            assert f'id="{module.__name__}.{name}"' in page


def test_docstrings_are_rendered(site):
    page = (site / "api.html").read_text(encoding="utf-8")
    assert ":param" not in page and ":class:" not in page and ":meth:" not in page
    assert "ε/|A|" in page and r"\|" not in page  # bars are bars, and no substitutions


@pytest.mark.parametrize("name", ["fig1", *FIGURES])
def test_every_figure_has_a_page_with_its_command(site, name):
    text = re.sub("<[^>]+>", "", (site / "paper" / f"{name}.html").read_text(encoding="utf-8"))
    assert ("sb3-distill recommend" if name == "fig1" else f"sb3-distill paper {name}") in text
    if name != "fig1":
        assert (site / "_images" / f"{name}.png").stat().st_size > 10_000


def test_links_lead_to_files():
    pages = [ROOT / "README.md", *(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)]
    assert len(pages) > 10
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert os.path.exists(page.parent / target), f"{page.name}: {target}"
