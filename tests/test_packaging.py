"""What is installed, with what, and from where: pyproject.toml, the pins of CI, and the README say the same."""

import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def direct_requirements():
    extras = PROJECT["optional-dependencies"].values()
    found = [Requirement(text) for text in [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]]
    return [
        r
        for r in found
        if r.name != "sb3-distill" and (r.marker is None or r.marker.evaluate({"python_version": "3.10"}))
    ]


def pins(path):
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {re.sub("[-_.]+", "-", r.name).lower(): r for r in map(Requirement, lines)}


def test_the_floors_are_the_versions_that_the_suite_runs_with():
    oldest = pins(ROOT / ".ci" / "oldest.txt")
    for requirement in direct_requirements():
        floors = [spec.version for spec in requirement.specifier if spec.operator == ">="]
        pin = str(oldest[re.sub("[-_.]+", "-", requirement.name).lower()].specifier).removeprefix("==")
        if floors:
            assert re.match(rf"{re.escape(floors[0])}(\.\d+)*$", pin), f"{requirement}: .ci/oldest.txt has {pin}"


def test_the_pins_of_a_quick_install_are_above_the_floors():
    newest = pins(ROOT / "constraints.txt")
    for requirement in direct_requirements():
        pin = newest.get(re.sub("[-_.]+", "-", requirement.name).lower())
        if pin is not None:
            assert requirement.specifier.contains(str(pin.specifier).removeprefix("==")), f"{requirement}: {pin}"


def test_a_plain_install_brings_what_the_first_run_needs_and_no_more():
    core = {re.split(r"[^\w-]", text)[0] for text in requires("sb3-distill") if "extra ==" not in text}
    assert core == {
        *("stable-baselines3", "sb3-contrib", "gymnasium", "torch", "numpy"),
        *("pyyaml", "matplotlib", "rich", "tqdm"),
    }


def test_the_first_run_needs_no_extra(tmp_path):
    """What the extras bring cannot be imported here: distilling, playing and looking around do without."""
    program = """
import sys
for name in ("h5py", "numba", "ale_py", "cv2", "minatar", "huggingface_hub", "rl_zoo3", "imageio", "argcomplete", "tensorboard", "Box2D"):
    sys.modules[name] = None
from sb3_distill import cli
distill = ["distill", "--steps", "64", "--n-envs", "2", "--eval-episodes", "2", "--net-arch", "8", "--out", "run", "--quiet"]
for words in (distill, ["play", "run", "--episodes", "2"], ["teachers"], ["methods"], ["inspect", "run"]):
    assert cli.main(words) == 0, words
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_the_readme_can_be_read_on_pypi():
    """There a relative link leads nowhere, and a relative picture is none."""
    base = PROJECT["urls"]["Homepage"]
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert target.startswith(("https://", "#")), target
        if "/sb3-distill/" in target and target.startswith("https://github.com"):
            path = re.sub(r"^/(blob|raw|tree)/main/", "", target.removeprefix(base)).partition("#")[0]
            assert target.startswith(base) and (ROOT / path).exists(), target


@pytest.mark.parametrize("name", ["pip install", "python -m pytest"])
def test_the_readmes_commands_are_those_that_ci_runs(name):
    commands = [
        line[2:] for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("$ ")
    ]
    assert len(commands) == 2 and name in commands[name == "python -m pytest"]


def test_the_wheel_has_what_users_need_and_no_more(tmp_path):
    """Modules of the three folders, the agents and settings of the zoo, the licence: no benchmark, no test, nothing half-written."""
    source = tmp_path / "source"
    for name in ("sb3_distill", "envs", "zoo"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        installed = {name for name in archive.namelist() if not re.match(r"sb3_distill-[^/]+/", name)}
    homes = {"sb3_distill": "sb3_distill", "envs": "sb3_distill/envs", "zoo": "sb3_distill/zoo"}
    expected = {"sb3_distill/py.typed"}
    for folder, home in homes.items():
        shipped = [
            *(ROOT / folder).rglob("*.py"),
            *(ROOT / folder / "agents").rglob("*"),
            *(ROOT / folder).rglob("*.yml"),
        ]
        files = (path for path in shipped if path.is_file() and "__pycache__" not in path.parts)
        relative = {path.relative_to(ROOT / folder) for path in files}
        expected |= {f"{home}/{path.as_posix()}" for path in relative if path.parts[0] not in ("benchmarks", "studies")}
    assert installed == expected


def test_every_version_of_python_that_is_named_is_tested():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    named = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)]
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == named
    assert named[0] == PROJECT["requires-python"].removeprefix(">=")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/installation.md"])
def test_a_page_names_files_and_targets_that_are_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:sb3_distill|tests|zoo|\.ci)/[\w./]+)", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"`make (\w+)`", text):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M), target
