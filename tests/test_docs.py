"""The pages build without warnings, and lack no public name and no figure."""

import argparse
import html
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

pytest.importorskip("sphinx")

import sb3_distill
from sb3_distill import envs
from sb3_distill.cli import make_parser
from sb3_distill.cli.tabular import FIGURES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site():
    """Where ``make doc`` puts it: what it has built already is not built again."""
    folder = DOCS / "_build" / "html"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(folder)]
    with FileLock(folder.with_name("tests.lock")):  # of another process of the tests
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


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


PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
AT_HOME = "https://github.com/sb3-distill/sb3-distill/"


def commands():
    """What the pages' console blocks have of ``sb3-distill``, with where it stands."""
    for page in PAGES:
        for block in re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                for part in line.removeprefix("$ ").split(" && "):
                    words = shlex.split(part, comments=True)
                    if words[:1] == ["sb3-distill"]:
                        yield pytest.param(words[1:], id=f"{page.name}: {' '.join(words)}")


@pytest.mark.parametrize("words", list(commands()))
def test_commands_on_the_pages_can_be_typed(words):
    make_parser().parse_args(words)


def marked_as_runnable():
    for page in PAGES:
        for code in re.findall(r"<!-- runs -->\n```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            yield pytest.param(code, id=page.name)


@pytest.mark.parametrize("code", list(marked_as_runnable()))
def test_marked_programs_run(code, tmp_path, monkeypatch):
    """As they stand, but for a shorter training."""
    monkeypatch.chdir(tmp_path)
    short = re.sub(r"learn\([\d_]+(, progress_bar=True)?\)", "learn(1_024)", code)
    assert short != code
    exec(compile(short, "page", "exec"), {})  # our own text
    assert (tmp_path / "student.zip").is_file()


def test_the_readmes_links_to_this_repository_lead_to_files():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(re.escape(AT_HOME) + r"(?:blob|raw)/main/([^)#\s]+)", text)
    assert len(targets) > 10
    for target in targets:
        assert (ROOT / target).is_file(), target
    assert not re.search(r"\]\((?!https://)", text)  # PyPI shows it, too, and has no other files


def test_every_page_is_in_the_navigation(site):
    text = (site / "index.html").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        if page.stem != "index":
            assert f'href="{page.stem}.html"' in text, page.name


def leaves(parser):
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return [leaf for a in groups for sub in a.choices.values() for leaf in leaves(sub)] if groups else [parser]


def test_the_reference_has_every_option_of_every_command(site):
    page = re.sub("<[^>]+>", "", (site / "cli.html").read_text(encoding="utf-8"))
    text = re.sub(r"\s+", " ", html.unescape(page))
    found = leaves(make_parser())
    assert len(found) > 8
    for parser in found:
        assert parser.prog in text
        for action in parser._actions:
            if action.help and action.help != argparse.SUPPRESS and "--help" not in action.option_strings:
                assert all(flag in text for flag in action.option_strings)
                help_text = argparse.HelpFormatter("")._expand_help(action)
                assert re.sub(r"\s+", " ", help_text).strip() in text, help_text


def test_others_names_are_links_to_their_pages(site):
    """Bases and annotations, which autodoc calls by their modules."""
    page = (site / "api.html").read_text(encoding="utf-8")
    for target in (
        "stable-baselines3.readthedocs.io/en/master/modules/ppo.html#stable_baselines3.ppo.PPO",
        "stable-baselines3.readthedocs.io/en/master/modules/a2c.html#stable_baselines3.a2c.A2C",
        "stable-baselines3.readthedocs.io/en/master/guide/vec_envs.html#stable_baselines3.common.vec_env.VecEnv",
        "gymnasium.farama.org/api/env/#gymnasium.Env",
        "docs.pytorch.org/docs/stable/tensors.html#torch.Tensor",
    ):
        assert f'href="https://{target}"' in page, target


def test_formulas_are_set_by_mathjax_and_readable_without(site):
    page = (site / "methods.html").read_text(encoding="utf-8")
    assert "mathjax" in page.lower() and 'class="math' in page and r"\nabla\log\pi_\theta" in page


def test_prompts_are_not_copied(site):
    page = (site / "tutorial.html").read_text(encoding="utf-8")
    assert "copybutton.js" in page
    assert '"$ "' in (site / "_static" / "copybutton.js").read_text(encoding="utf-8").replace("'", '"')
