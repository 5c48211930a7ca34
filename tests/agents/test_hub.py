"""The Hub: the real client against a small Hub on this machine, the cache without a network, and what breaks off."""

import argparse
import importlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import gymnasium as gym
import pytest
import stable_baselines3
from hub_server import TOKEN, HubServer, sha256
from huggingface_hub import ModelCard, constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from sb3_distill import load_teacher
from sb3_distill.agents.find import BUNDLED
from sb3_distill.agents.hub import hub_agent, zoo_rule
from sb3_distill.cli import main, make_parser, push
from sb3_distill.experiment.run_folder import RUN_FILES

NAME = "sb3/dqn-CartPole-v1"
BUNDLED_AGENT = BUNDLED / "dqn" / "CartPole-v1_1"
ZIP = (BUNDLED_AGENT / "CartPole-v1.zip").read_bytes()
SETTINGS = {
    "config.yml": (BUNDLED_AGENT / "CartPole-v1" / "config.yml").read_bytes(),
    "args.yml": (BUNDLED_AGENT / "CartPole-v1" / "args.yml").read_bytes(),
    "env_kwargs.yml": b"{}\n",
    "vec_normalize.pkl": bytes(range(256)) * 4,
}
AGENT = {"dqn-CartPole-v1.zip": ZIP, "README.md": b"a card", **SETTINGS}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub, and a client that knows of it by its environment variables and has an empty cache."""
    for name in os.environ:
        if name.startswith(("HF_", "HUGGING")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")  # a protocol that no small server can speak
    disable_progress_bars()
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        importlib.reload(constants)
        yield server
    monkeypatch.undo()
    importlib.reload(constants)
    enable_progress_bars()


@pytest.fixture
def offline(monkeypatch):
    """Switches the client to its offline mode."""

    def switch():
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        importlib.reload(constants)

    return switch


@pytest.fixture
def impatient(monkeypatch):
    """The client tries again without waiting."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def cached(suffix=""):
    """Every file that a load could take from the cache."""
    return sorted(path.name for path in Path(constants.HF_HUB_CACHE).glob(f"*/snapshots/*/*{suffix}"))


def assert_error(kind, call, *parts):
    with pytest.raises(kind) as raised:
        call()
    message = str(raised.value)
    assert raised.type is kind or kind is ValueError
    assert len(message.splitlines()) == 1
    for part in parts:
        assert part in message


# --- what is downloaded -----------------------------------------------------------------------------------------------


def test_an_agent_comes_with_its_settings_and_nothing_else(hub):
    others = {"replay.mp4": b"a film", "train_eval_metrics.zip": b"curves", "results.json": b"{}", "x/config.yml": b""}
    sha = hub.add(NAME, AGENT | others)
    agent = hub_agent(f"hub:{NAME}")
    assert agent.zip.read_bytes() == ZIP
    paths = (agent.config, agent.args, agent.env_kwargs, agent.vec_normalize)
    assert [path.read_bytes() for path in paths] == list(SETTINGS.values())
    assert (agent.algo, agent.env_id, agent.repo, agent.revision) == ("dqn", "CartPole-v1", NAME, sha)
    assert cached() == sorted(AGENT)
    assert load_teacher(agent.zip, temperature=0.01).n_parameters == 67_586


def test_settings_that_are_not_there_are_none(hub):
    hub.add("me/tiny", {"tiny.zip": ZIP, "args.yml": b"algo: dqn\n"})
    agent = hub_agent("hub:me/tiny")
    assert (agent.config, agent.env_kwargs, agent.vec_normalize, agent.algo, agent.env_id) == (None,) * 5
    assert agent.args.read_bytes() == b"algo: dqn\n"


def test_the_cache_is_used_and_a_new_commit_is_noticed(hub):
    first = hub.add(NAME, AGENT)
    one = hub_agent(f"hub:{NAME}")
    asked = hub.asked.copy()
    assert hub_agent(f"hub:{NAME}") == one
    assert hub.asked == asked
    second = hub.repos[NAME].commit({"dqn-CartPole-v1.zip": b"better"})
    other = hub_agent(f"hub:{NAME}")
    assert (one.revision, other.revision, other.zip.read_bytes()) == (first, second, b"better")
    assert one.zip.read_bytes() == ZIP


def test_a_revision_is_pinned(hub):
    first = hub.add(NAME, AGENT)
    repo = hub.repos[NAME]
    repo.branches["v1"] = repo.branches["refs/pr/1"] = first
    second = repo.commit({"dqn-CartPole-v1.zip": b"better", "config.yml": b"newer: true\n"})
    for revision, commit in (("main", second), ("v1", first), ("refs/pr/1", first), (first, first), (second, second)):
        agent = hub_agent(f"hub:{NAME}@{revision}")
        files = repo.commits[commit]
        assert agent.revision == commit
        assert agent.zip.read_bytes() == files["dqn-CartPole-v1.zip"]
        assert agent.config.read_bytes() == files["config.yml"]


@pytest.mark.parametrize("files", [["other.zip"], ["other.zip", "train_eval_metrics.zip", "runs/x.zip"]])
def test_the_only_agent_needs_no_name(hub, files):
    hub.add("me/tiny", dict.fromkeys(files, ZIP))
    assert hub_agent("hub:me/tiny").zip.name == "other.zip"


def test_of_several_agents_one_must_be_named_unless_it_is_called_as_its_repository(hub):
    hub.add("me/both", {"a.zip": b"a", "b.zip": b"b"})
    for _ in range(2):
        assert_error(FileNotFoundError, lambda: hub_agent("hub:me/both"), "several agents", ":a.zip, :b.zip")
        # What the cache then has does not make it the only one.
        assert hub_agent("hub:me/both:b.zip").zip.read_bytes() == b"b"
    assert hub_agent("hub:me/both@main:a.zip").zip.read_bytes() == b"a"
    hub.repos["me/both"].commit({"both.zip": b"both"})
    assert hub_agent("hub:me/both").zip.read_bytes() == b"both"


def test_a_private_agent_needs_a_token(hub, monkeypatch):
    hub.add("me/secret", {"secret.zip": ZIP}, private=True)
    assert_error(FileNotFoundError, lambda: hub_agent("hub:me/secret"), "'hub:me/secret'", "hf auth login", "HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert_error(PermissionError, lambda: hub_agent("hub:me/secret"), "Invalid credentials", "HF_TOKEN")
    assert cached() == []
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert hub_agent("hub:me/secret").zip.read_bytes() == ZIP


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dqn-CartPole-v1", ("dqn", "CartPole-v1")),
        ("ppo_lstm-Gone-From-Here-v0", ("ppo_lstm", "Gone-From-Here-v0")),
        ("a2c-Space-Thing-v3", ("a2c", "Space/Thing-v3")),
        ("tiny-cartpole", (None, None)),
    ],
)
def test_names_tell_algorithm_and_environment(name, expected, monkeypatch):
    monkeypatch.setitem(gym.registry, "Space/Thing-v3", None)
    assert zoo_rule(name) == expected


def test_an_agent_whose_file_is_called_otherwise_is_told_by_its_repository(hub):
    hub.add("me/ppo-CartPole-v1", {"model.zip": ZIP, "dqn-Acrobot-v1.zip": ZIP})
    agents = [hub_agent(f"hub:me/ppo-CartPole-v1:{file}") for file in ("model.zip", "dqn-Acrobot-v1.zip")]
    assert [(agent.algo, agent.env_id) for agent in agents] == [("ppo", "CartPole-v1"), ("dqn", "Acrobot-v1")]


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["hub:", "hub:one", "hub:a/b/c", "hub:a/b@", "hub:a/b:x.pkl", "hub:a/b:../x.zip", "hub:a/b c", "zoo:a/b"]
)
def test_what_is_no_name_is_told_the_form(hub, name):
    assert_error(ValueError, lambda: hub_agent(name), repr(name), "'hub:OWNER/REPO'", "'hub:OWNER/REPO@REVISION'")


def test_what_no_repository_can_be_called_is_refused(hub):
    assert_error(ValueError, lambda: hub_agent("hub:me/a--b"), "me/a--b")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hub:me/nothing", ["No repository", "private"]),
        (f"hub:{NAME}@v9", ["No such revision", "@v9"]),
        (f"hub:{NAME}:x.zip", ["No such file", ":x.zip"]),
        ("hub:me/films", ["holds no agent"]),
    ],
)
def test_what_is_not_there_is_said_so(hub, name, parts):
    hub.add(NAME, AGENT)
    hub.add("me/films", {"replay.mp4": b"a film", "train_eval_metrics.zip": b"curves"})
    assert_error(FileNotFoundError, lambda: hub_agent(name), *parts)
    assert cached(".zip") == []


def test_without_the_client_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub.utils", None)
    assert_error(ImportError, lambda: hub_agent(f"hub:{NAME}"), "pip install 'sb3-distill[hub]'")


def test_an_error_of_the_disk_is_not_blamed_on_the_network(hub, tmp_path):
    hub.add(NAME, AGENT)
    (tmp_path / "hf").write_text("no folder")
    assert_error(NotADirectoryError, lambda: hub_agent(f"hub:{NAME}"), str(tmp_path / "hf"))


def test_a_failing_hub_does_not_matter_to_the_cache(hub, impatient):
    hub.add(NAME, AGENT)
    agent = hub_agent(f"hub:{NAME}")
    for status in (500, 503):
        hub.answer = (status, b"")
        assert hub_agent(f"hub:{NAME}") == agent
        assert_error(ConnectionError, lambda: hub_agent("hub:me/tiny"), "me/tiny", hub.url, "try again", f"{status}")
    hub.answer = (403, b"")
    assert_error(PermissionError, lambda: hub_agent("hub:me/tiny"), "me/tiny", hub.url, "HF_TOKEN")


def test_what_answers_but_is_no_hub_is_said_so(hub):
    hub.answer = (200, b"<html>Log in to this train's network</html>")
    assert_error(ConnectionError, lambda: hub_agent("hub:me/tiny"), "me/tiny", hub.url)


def test_without_a_network_the_cache_is_used(hub, impatient):
    hub.add(NAME, AGENT)
    hub.add("me/tiny", {"other.zip": ZIP})
    agents = [hub_agent(f"hub:{name}") for name in (NAME, "me/tiny")]
    hub.stop()
    assert [hub_agent(f"hub:{name}") for name in (NAME, "me/tiny")] == agents
    assert_error(ConnectionError, lambda: hub_agent("hub:me/more"), "cannot be reached", "not in the cache", "me/more")


def test_offline_mode_is_the_clients_own_and_asks_nobody(hub):
    """In a process of its own, which has nothing but the environment variables."""
    hub.add(NAME, AGENT)
    hub.add("me/tiny", {"other.zip": ZIP})
    agents = [hub_agent(f"hub:{name}") for name in (NAME, "me/tiny")]
    hub.answer = (500, b"")  # would be seen in the message
    script = (
        "import sys\n"
        "from sb3_distill.agents.hub import hub_agent\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        print(hub_agent(name).zip)\n"
        "    except FileNotFoundError as error:\n"
        "        print(error)\n"
    )
    names = [f"hub:{NAME}", f"hub:{NAME}@{agents[0].revision}", "hub:me/tiny", f"hub:{NAME}@v1", f"hub:{NAME}:x.zip"]
    done = subprocess.run(
        [sys.executable, "-c", script, *names],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[:3] == [str(agents[0].zip), str(agents[0].zip), str(agents[1].zip)]
    for name, line in zip(names[3:], lines[3:], strict=True):
        assert line == f"{name!r} is not in the cache, and HF_HUB_OFFLINE is set: unset it to go online."


# --- what breaks off --------------------------------------------------------------------------------------------------


def test_a_download_that_breaks_off_leaves_nothing(hub, impatient):
    hub.add(NAME, AGENT)
    hub.cut = len(ZIP) // 2
    assert_error(ConnectionError, lambda: hub_agent(f"hub:{NAME}"), NAME, "try again")
    assert cached(".zip") == []
    assert list(Path(constants.HF_HUB_CACHE).rglob("*.incomplete")) == []
    hub.cut = None
    assert hub_agent(f"hub:{NAME}").zip.read_bytes() == ZIP


def test_what_broke_off_is_not_taken_for_whole_without_a_network(hub, impatient, offline):
    hub.add(NAME, AGENT)
    hub.cut = len(ZIP) // 2
    with pytest.raises(ConnectionError):
        hub_agent(f"hub:{NAME}")
    offline()
    assert_error(FileNotFoundError, lambda: hub_agent(f"hub:{NAME}"), "not in the cache")


def test_an_agent_is_not_there_before_its_settings(hub, impatient):
    """Else it would later be loaded without its normalisation."""
    hub.add(NAME, AGENT)
    hub.cut = 100
    with pytest.raises(ConnectionError):
        hub_agent(f"hub:{NAME}")
    assert hub.asked[sha256(SETTINGS["vec_normalize.pkl"])] > 0
    assert hub.asked[sha256(ZIP)] == 0


def test_a_connection_that_breaks_once_is_resumed(hub, impatient):
    hub.add("me/tiny", {"tiny.zip": ZIP})
    hub.cut = len(ZIP) // 2
    hub.before_cut = lambda: setattr(hub, "cut", None)
    assert hub_agent("hub:me/tiny").zip.read_bytes() == ZIP
    assert hub.asked[sha256(ZIP)] == 2


def test_an_interrupted_download_leaves_nothing(hub):
    hub.add("me/tiny", {"tiny.zip": ZIP})
    hub.cut = len(ZIP) // 2
    hub.before_cut = lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    # A shell starts what it puts into the background with Ctrl+C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            hub_agent("hub:me/tiny")
    finally:
        signal.signal(signal.SIGINT, before)
    assert cached() == []
    hub.cut = None
    assert hub_agent("hub:me/tiny").zip.read_bytes() == ZIP


# --- what is pushed ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What a small run writes."""
    out = tmp_path_factory.mktemp("run") / "out"
    settings = "--steps 64 --n-envs 2 --engine a2c --net-arch 8 8 --eval-episodes 3 --temperature 0.01"
    assert main(["distill", *settings.split(), "--out", str(out)]) == 0
    return out


@pytest.fixture
def logged_in(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def prepared(folder, *options, repo="me/a2c-CartPole-v1"):
    """The second half of the subcommand."""
    parser = argparse.ArgumentParser()
    push.add_options(parser)
    args = parser.parse_args([str(folder), "--repo", repo, *options])
    return args.prepare(args)


def results_of(run):
    return json.loads((run / "results.json").read_text(encoding="utf-8"))


def test_a_student_goes_to_the_hub_and_comes_back(run, logged_in, capsys):
    work = prepared(run)
    assert logged_in.repos == {}  # the first half asks nobody
    capsys.readouterr()
    work()
    repo = logged_in.repos["me/a2c-CartPole-v1"]
    assert f"Pushed to {logged_in.url}/me/a2c-CartPole-v1\n" in capsys.readouterr().out
    assert not repo.private
    assert repo.messages == ["", "n_distill student of dqn/CartPole-v1"]  # that of the empty repository, and ours

    agent = hub_agent("hub:me/a2c-CartPole-v1")
    assert agent.zip.read_bytes() == (run / "student.zip").read_bytes()
    assert (agent.algo, agent.env_id) == ("a2c", "CartPole-v1")
    assert isinstance(stable_baselines3.A2C.load(agent.zip), stable_baselines3.A2C)
    assert load_teacher(agent.zip).n_parameters == results_of(run)["players"]["student"]["parameters"]


def test_nothing_else_of_the_folder_is_pushed(run, logged_in, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    (folder / "secret.txt").write_text("mine")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "student.zip").write_text("mine")
    prepared(folder, repo="me/tiny")()
    files = logged_in.repos["me/tiny"].files()
    assert sorted(files) == sorted(
        [".gitattributes", "README.md", "learning_curve.csv", "learning_curve.png", "results.json", "tiny.zip"]
    )
    for name in set(RUN_FILES) - {"student.zip"}:
        assert files[name] == (run / name).read_bytes()


def test_the_card_says_what_the_student_is(run, logged_in):
    prepared(run)()
    text = logged_in.repos["me/a2c-CartPole-v1"].files()["README.md"].decode()
    results = results_of(run)
    teacher, student = results["players"]["teacher"], results["players"]["student"]

    card = ModelCard(text)
    assert card.data.library_name == "stable-baselines3"
    assert {"CartPole-v1", "reinforcement-learning", "stable-baselines3", "policy-distillation"} <= set(card.data.tags)
    (result,) = card.data.eval_results
    assert (result.task_type, result.dataset_type, result.metric_type) == (
        "reinforcement-learning",
        "CartPole-v1",
        "mean_reward",
    )
    mean, deviation = map(float, result.metric_value.split(" +/- "))
    assert mean == pytest.approx(student["mean_return"], abs=0.005)
    assert deviation == pytest.approx(student["standard_error"] * 2**0.5, abs=0.005)  # of three episodes

    for player in (teacher, student):
        assert f"{player['mean_return']:,.1f} ± {player['standard_error']:,.1f} | {player['parameters']:,} |" in text
    for part in (
        "# A2C student for `CartPole-v1`",
        "`dqn/CartPole-v1`",
        f"{teacher['parameters'] / student['parameters']:.1f}× smaller",
        "the same 3 episodes",
        "`n_distill`",
        "`KL(π‖π_θ)`",
        "`−γ ℓ(s_{i+1})`, with weight 0.1",
        "τ = 0.01 (given)",
        "](learning_curve.png)",
        'A2C.load(hf_hub_download("me/a2c-CartPole-v1", "a2c-CartPole-v1.zip"))',
        'load_teacher("hub:me/a2c-CartPole-v1")',
        f"stable-baselines3 {stable_baselines3.__version__}",
    ):
        assert part in text


def test_the_command_on_the_card_is_the_run(run):
    results = results_of(run)
    card = push.model_card(results, "me/tiny")
    (line,) = (line for line in card.splitlines() if line.startswith("$ "))
    program, *arguments = shlex.split(line.removeprefix("$ "))
    assert program == "sb3-distill"
    parsed = vars(make_parser().parse_args(arguments))
    settings = {name: value for name, value in results["settings"].items() if name != "out"}
    assert {name: parsed[name] for name in settings} == settings


def test_odd_settings_can_be_typed_as_they_were():
    settings = {"teacher": "my agents/it's.zip", "net_arch": [], "seed": 0, "flag": True, "other": False, "n": None}
    assert push.command(settings | {"out": "x"}) == (
        """sb3-distill distill --teacher 'my agents/it'"'"'s.zip' --net-arch --seed 0 --flag"""
    )


@pytest.mark.parametrize("text", ["x: [{", "a # b", "'\"", "- y", "`z` <b>|", "!!python/object:os.system"])
def test_text_of_the_results_cannot_break_the_card(run, text):
    results = results_of(run)
    results["settings"]["env"] = results["teacher"]["name"] = text
    card = ModelCard(push.model_card(results, "me/tiny"))
    assert card.data.tags[0] == card.data.eval_results[0].dataset_name == text
    assert "## How it was made" in card.text


@pytest.fixture
def broken(run, tmp_path):
    """Copies of the run, with a file replaced or removed."""

    def copy(name, content):
        folder = tmp_path / "broken"
        shutil.copytree(run, folder)
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(content)
        return folder

    return copy


@pytest.mark.parametrize(
    ("name", "content", "kind", "parts"),
    [
        ("student.zip", None, FileNotFoundError, ["it has no student.zip"]),
        ("results.json", None, FileNotFoundError, ["it has no results.json"]),
        ("student.zip", "PK", ValueError, ["student.zip is not a complete zip"]),
        ("results.json", "{", ValueError, ["results.json is not what 'sb3-distill distill' writes"]),
        ("results.json", "[]", ValueError, ["results.json is not what 'sb3-distill distill' writes"]),
        ("results.json", '{"mean_reward": 500.0}', ValueError, ["results.json is not what", "settings"]),
    ],
)
def test_what_is_no_run_is_not_pushed(broken, logged_in, name, content, kind, parts):
    folder = broken(name, content)
    assert_error(kind, lambda: prepared(folder), *parts)
    assert logged_in.repos == {}


@pytest.mark.parametrize(("path", "value"), [(("settings", "env"), "a\n```\nb"), (("settings", "method"), "n-distil")])
def test_results_that_cannot_be_told_are_refused(run, broken, path, value):
    results = results_of(run)
    results[path[0]][path[1]] = value
    folder = broken("results.json", json.dumps(results))
    assert_error(ValueError, lambda: prepared(folder), "results.json is not what", repr(value))


@pytest.mark.parametrize("repo", ["tiny", "me/", "me/a/b", "me/a b", "me/a--b"])
def test_what_cannot_be_a_repository_is_refused_before_it_is_asked_for(run, hub, repo):
    assert_error(ValueError, lambda: prepared(run, repo=repo), repo)


def test_a_dry_run_shows_the_card_and_the_files_and_pushes_nothing(run, hub, capsys):
    work = prepared(run, "--dry-run", repo="me/tiny")
    capsys.readouterr()
    work()
    printed = capsys.readouterr().out
    assert push.model_card(results_of(run), "me/tiny") in printed
    assert f"  tiny.zip  from {run / 'student.zip'}\n" in printed
    assert hub.repos == {}


def test_private_means_private(run, logged_in):
    prepared(run, "--private")()
    assert logged_in.repos["me/a2c-CartPole-v1"].private
    prepared(run, "--private")()  # a second time, it exists already


def test_what_shall_be_private_is_not_put_where_all_can_see_it(run, logged_in):
    logged_in.add("me/open", {"README.md": b"mine"})
    assert_error(FileExistsError, prepared(run, "--private", repo="me/open"), "me/open exists and is public")
    assert logged_in.repos["me/open"].files() == {"README.md": b"mine"}


def test_a_branch_and_a_message_of_ones_own(run, logged_in, capsys):
    prepared(run, repo="me/tiny")()
    repo = logged_in.repos["me/tiny"]
    before = repo.branches["main"]
    capsys.readouterr()
    for _ in range(2):  # it is made, then it is there
        prepared(run, "--revision", "v1", "--message", "A try", repo="me/tiny")()
    assert f"Pushed to {logged_in.url}/me/tiny/tree/v1\n" in capsys.readouterr().out
    assert repo.branches["main"] == before
    assert repo.messages[-1] == "A try"
    card = repo.files("v1")["README.md"].decode()
    assert 'hf_hub_download("me/tiny", "tiny.zip", revision="v1")' in card
    assert 'load_teacher("hub:me/tiny@v1")' in card
    assert hub_agent("hub:me/tiny@v1").zip.read_bytes() == (run / "student.zip").read_bytes()


def test_without_a_token_nothing_is_pushed(run, hub, monkeypatch):
    assert_error(PermissionError, prepared(run), "hf auth login", "HF_TOKEN", "'me/a2c-CartPole-v1'")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert_error(PermissionError, prepared(run), "Invalid credentials")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert_error(PermissionError, prepared(run, repo="others/tiny"), "'others/tiny'", "don't have the rights")
    assert hub.repos == {}


def test_an_upload_that_breaks_off_changes_no_file(run, logged_in, impatient):
    logged_in.add("me/tiny", {"README.md": b"mine"})
    logged_in.broken_storage = True
    assert_error(ConnectionError, prepared(run, repo="me/tiny"), "'me/tiny'", "try again")
    assert logged_in.repos["me/tiny"].files() == {"README.md": b"mine"}


def test_pushing_without_a_network_is_told_so(run, logged_in, offline):
    work = prepared(run)
    logged_in.stop()
    assert_error(ConnectionError, work, logged_in.url, "me/a2c-CartPole-v1")
    offline()
    assert_error(ConnectionError, work, "'me/a2c-CartPole-v1'", "HF_HUB_OFFLINE")


# --- through the front doors ------------------------------------------------------------------------------------------


def test_load_teacher_knows_the_hub(hub):
    """``hub:`` is one more kind of source."""
    hub.add(NAME, AGENT)
    teacher = load_teacher(f"hub:{NAME}", temperature=0.01)
    assert (teacher.n_parameters, teacher.env_id) == (67_586, "CartPole-v1")
    assert NAME in teacher.name


def test_statistics_of_a_freely_named_repository_are_not_forgotten(hub):
    """Its name tells no environment, but its config.yml says that observations were normalised."""
    hub.add("me/tiny", {"tiny.zip": ZIP, "config.yml": b"normalize: true\n", "vec_normalize.pkl": b"damaged"})
    with pytest.raises(ValueError, match="holds no VecNormalize statistics"):
        load_teacher("hub:me/tiny", temperature=0.01)


def test_a_normalised_agent_without_its_statistics_is_refused(hub):
    """A teacher that reads other observations than it was trained on plays at random, silently."""
    hub.add(NAME, {"dqn-CartPole-v1.zip": ZIP, "config.yml": b"normalize: true\n"})
    with pytest.raises(ValueError, match=r"vec_normalize\.pkl is missing"):
        load_teacher(f"hub:{NAME}", temperature=0.01)


def test_a_student_of_the_command_line_teaches_the_next_one(logged_in, tmp_path, capsys):
    """distill, push, and distil from what was pushed."""
    small = ["--steps", "64", "--n-envs", "2", "--engine", "a2c", "--eval-episodes", "2"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["distill", *small, "--temperature", "0.01", "--out", str(one)]) == 0
    assert main(["push", str(one), "--repo", "me/a2c-CartPole-v1"]) == 0
    assert f"Pushed to {logged_in.url}/me/a2c-CartPole-v1" in capsys.readouterr().out
    assert main(["distill", *small, "--teacher", "hub:me/a2c-CartPole-v1", "--out", str(two)]) == 0
    results = results_of(two)
    assert results["settings"]["teacher"] == "hub:me/a2c-CartPole-v1"
    assert results["players"]["teacher"]["parameters"] == results_of(one)["players"]["student"]["parameters"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["distill", "--teacher", "hub:me/nothing"], "No repository for 'hub:me/nothing'"),
        (["distill", "--teacher", "hub:nothing"], "write 'hub:OWNER/REPO'"),
        (["push", "no/folder", "--repo", "me/x"], "no/folder is not what 'sb3-distill distill' writes"),
    ],
)
def test_errors_of_the_hub_are_one_line(hub, arguments, part, tmp_path, monkeypatch, capsys):
    """As all errors of the command line are."""
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sb3-distill: error: ") and part in line


def test_a_push_without_a_token_ends_in_one_line(hub, run, capsys):
    """It fails in the second half of the command, when the network is asked."""
    capsys.readouterr()
    assert main(["push", str(run), "--repo", "me/x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "hf auth login" in line
