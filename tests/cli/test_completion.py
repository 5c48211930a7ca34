"""What a shell offers after Tab, and that it does not wait for PyTorch."""

import os
import subprocess
import sys

import pytest

from sb3_distill.agents.find import zoo_folders
from sb3_distill.cli import completion, main
from sb3_distill.rules.methods import method_names

pytest.importorskip("argcomplete")


def offered(line, tmp_path):
    """As bash asks."""
    file = tmp_path / "offered"
    environment = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(file),
        "_ARGCOMPLETE_COMP_WORDBREAKS": " ",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    code = "import sys; from sb3_distill.cli import main; import atexit; "
    code += "atexit.register(lambda: None); sys.argv = ['sb3-distill']; main()"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, timeout=60, check=False)
    return [name.strip() for name in file.read_text().split("\n")]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("sb3-distill di", {"distill"}),
        ("sb3-distill distill --env-", {"--env-kwargs", "--env-reward-coef"}),
        ("sb3-distill distill --method n-", {"n-distill"}),
        ("sb3-distill play zoo:dqn/Cart", {"zoo:dqn/CartPole-v1"}),
    ],
)
def test_what_is_offered(line, names, tmp_path):
    assert set(offered(line, tmp_path)) == names


def test_the_names_are_those_that_there_are(monkeypatch):
    monkeypatch.delenv("RL_TRAINED_AGENTS", raising=False)
    assert [name.replace("-", "_") for name in completion.METHODS] == [*method_names(), "policy_distillation"]
    assert completion.zoo_names() == sorted(f"zoo:{name}" for name in zoo_folders())


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_shell_is_told(shell, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--print-completion", shell])
    assert stop.value.code == 0 and "sb3-distill" in capsys.readouterr().out


def test_an_unknown_shell_and_a_missing_package_are_a_line(monkeypatch, capsys):
    assert main(["--print-completion", "bsh"]) == 2
    assert "Unknown shell 'bsh': did you mean 'bash'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    assert main(["--print-completion", "bash"]) == 2
    assert "pip install 'sb3-distill[completion]'" in capsys.readouterr().err
