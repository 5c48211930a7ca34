"""A student goes to the Hugging Face Hub: ``sb3-distill push``.

What is pushed is what ``sb3-distill distill`` wrote, with a model card made from its ``results.json``. All files arrive in one
commit, or none does.
"""

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from sb3_distill.agents.hub import check_repo, plain_errors
from sb3_distill.experiment import offline


def add_options(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: of the subcommand ``push``
    """
    parser.set_defaults(prepare=prepare)
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="what 'sb3-distill distill' wrote")
    add("--repo", required=True, metavar="OWNER/NAME", help="of the model; the zoo's rule for NAME is ALGO-ENV")
    add("--private", action="store_true", help="make the repository private if it does not exist yet")
    add("--revision", metavar="BRANCH", help="made if it does not exist yet (default: main)")
    add("--message", metavar="TEXT", help="of the commit (default: who was distilled by which method)")
    add("--dry-run", action="store_true", help="show the model card and the files, and push nothing")


def prepare(args: argparse.Namespace) -> Callable[[], None]:
    """
    Read the folder and write the model card, without a network.

    :param args: see ``sb3-distill push --help``
    :return: pushes; raises what :func:`upload` does
    :raises ValueError: if a file of the folder is not what ``distill`` writes, or no repository can have that name
    :raises FileNotFoundError: if one is missing
    :raises ImportError: without ``huggingface_hub``
    """
    from sb3_distill.agents.checkpoint import read_checkpoint
    from sb3_distill.experiment.run_folder import RUN_FILES

    check_repo(args.repo)
    folder = Path(args.folder).expanduser()
    missing = [name for name in RUN_FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} is not what 'sb3-distill distill' writes: it has no {' and no '.join(missing)}."
        )
    read_checkpoint(folder / "student.zip")
    path = folder / "results.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        card = model_card(results, args.repo, args.revision)
        message = (
            args.message or f"{_text(results['settings']['method'])} student of {_text(results['teacher']['name'])}"
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not what 'sb3-distill distill' writes: {type(error).__name__}: {error}") from error
    files: dict[str, Path | bytes] = {
        f"{args.repo.partition('/')[2]}.zip" if name == "student.zip" else name: folder / name for name in RUN_FILES
    }
    files["README.md"] = card.encode()
    if args.dry_run:
        return partial(show, args.repo, files)
    return partial(push, args.repo, files, message, private=args.private, revision=args.revision)


def show(repo: str, files: Mapping[str, Path | bytes]) -> None:
    """
    Print what would be pushed.

    :param repo: ``OWNER/NAME``
    :param files: as for :func:`upload`; the model card among them
    """
    card = files["README.md"]
    assert isinstance(card, bytes)
    sys.stdout.write(f"{card.decode()}\nThis card as README.md and these files would go to {repo}:\n")
    sys.stdout.write("".join(f"  {name}  from {path}\n" for name, path in files.items() if isinstance(path, Path)))


def push(
    repo: str, files: Mapping[str, Path | bytes], message: str, *, private: bool = False, revision: str | None = None
) -> None:
    """
    Upload, and print where to find it. The arguments are those of :func:`upload`.
    """
    url = upload(repo, files, message, private=private, revision=revision)
    sys.stdout.write(f"Pushed to {url}\nTeach others with it:\n  load_teacher({json.dumps(_name(repo, revision))})\n")


def upload(
    repo: str, files: Mapping[str, Path | bytes], message: str, *, private: bool = False, revision: str | None = None
) -> str:
    """
    Commit files to a repository of models, which is made if it does not exist.

    :param repo: ``OWNER/NAME``
    :param files: from names in the repository to files or contents
    :param message: of the commit
    :param private: nobody else may see the files
    :param revision: a branch, which is made if it does not exist; by default the main one
    :return: the address to look at them
    :raises FileExistsError: if they shall be private and the repository is public
    :raises PermissionError: without a token that may write there
    :raises ConnectionError: if the Hub cannot be reached, or the upload breaks off; no file is changed then
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    with plain_errors(repo):
        url = str(api.create_repo(repo, private=private or None, exist_ok=True))
        public = not api.model_info(repo).private
    if private and public:
        raise FileExistsError(f"{repo} exists and is public: make it private at {url}/settings, or choose another.")
    with plain_errors(repo):
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        additions = [CommitOperationAdd(name, content) for name, content in files.items()]
        api.create_commit(repo, additions, commit_message=message, revision=revision)
    return url if revision is None else f"{url}/tree/{revision}"


# --- the model card ---------------------------------------------------------------------------------------------------


def model_card(results: Mapping[str, Any], repo: str, revision: str | None = None) -> str:
    """
    Say what a student is, how good and how large, and how it was made.

    :param results: what ``results.json`` holds
    :param repo: ``OWNER/NAME``, where it will be found
    :param revision: likewise; by default the main branch
    :return: Markdown below metadata in YAML
    :raises ValueError: if the results are not such that a card can be made; also LookupError, TypeError, AttributeError
    """
    settings, versions = results["settings"], results["versions"]
    package, algorithm = loaded_by(settings["engine"])
    env_id = settings["env"]
    n_episodes = len(results["players"]["student"]["returns"])
    file = f"{repo.partition('/')[2]}.zip"
    pinned = "" if revision is None else f", revision={json.dumps(revision)}"
    return f"""---
{yaml.safe_dump(metadata(results), sort_keys=False, allow_unicode=True)}---

# {algorithm} student for {_code(env_id)}

A {algorithm} agent for {_code(env_id)}, distilled with `sb3-distill` from the teacher {_code(results["teacher"]["name"])}.
It is a plain model of {"Stable-Baselines3" if package == "stable_baselines3" else "sb3-contrib"}.

{_players(results["players"])}

All of them play the same {n_episodes} episodes, teacher and student greedily.

![The student's return against environment steps](learning_curve.png)

## How to load it

```python
from huggingface_hub import hf_hub_download
from {package} import {algorithm}

student = {algorithm}.load(hf_hub_download("{repo}", "{file}"{pinned}))
```

To teach with it, which runs nothing of what the file holds:

```python
from sb3_distill import load_teacher

teacher = load_teacher({json.dumps(_name(repo, revision))})
```

## How it was made

{_method(settings, results["teacher"])}

```console
$ {command(settings)}
```

With {", ".join(f"{_text(name)} {_text(version)}" for name, version in versions.items())}.
"""


def loaded_by(engine: str) -> tuple[str, str]:
    """
    :param engine: as ``results.json`` calls it
    :return: the package and the name of the class that loads the student
    :raises KeyError: for a name that there is not
    """
    from sb3_distill.algorithms.engines import loading_class

    loading = loading_class(engine)
    return loading.__module__.partition(".")[0], loading.__name__


def metadata(results: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param results: what ``results.json`` holds
    :return: what the Hub reads; the return is given with its standard deviation, as on the cards of other agents
    """
    settings, student = results["settings"], results["players"]["student"]
    env_id = settings["env"]
    score = f"{student['mean_return']:.2f} +/- {statistics.pstdev(student['returns']):.2f}"
    task = "reinforcement-learning"
    result = {
        "task": {"type": task, "name": task},
        "dataset": {"name": env_id, "type": env_id},
        "metrics": [{"type": "mean_reward", "value": score, "name": "mean_reward", "verified": False}],
    }
    return {
        "library_name": "stable-baselines3",
        "tags": [env_id, "deep-reinforcement-learning", task, "stable-baselines3", "policy-distillation"],
        "model-index": [{"name": loaded_by(settings["engine"])[1], "results": [result]}],
    }


def command(settings: Mapping[str, Any]) -> str:
    """
    :param settings: of a run, from its ``results.json``
    :return: the command that repeats it: every setting, because defaults may change, but for where the files went
    """
    words = ["sb3-distill", "distill"]
    for name, value in settings.items():
        if name == "out" or value is None or value is False or value == {}:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if isinstance(value, Mapping):
            words += [_text(f"{key}={item!r}") for key, item in value.items()]
        elif value is not True:
            words += [_text(part) for part in (value if isinstance(value, list) else [value])]
    return shlex.join(words)


def _players(players: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of who plays how well."""
    from sb3_distill.evaluation.scores import Score, size_ratio

    lines = ["| player | return ± standard error | parameters | size | environment steps |", "|---|---|---|---|---|"]
    for name, player in players.items():
        mark = Score(player["mean_return"], player["standard_error"], len(player["returns"]))
        size, steps = player["parameters"], player["training_steps"]
        ratio = size_ratio(size, players["teacher"]["parameters"])
        counts = [f"{count:,}" if count is not None else "—" for count in (size, steps)]
        lines.append(f"| {_text(name)} | {mark} | {counts[0]} | {ratio} | {counts[1]} |")
    return "\n".join(lines)


def _method(settings: Mapping[str, Any], teacher: Mapping[str, Any]) -> str:
    """Which update rule, by its formulas, and what the teacher's policy is."""
    from sb3_distill.rules.methods import get_method

    if settings["method"] == offline.NAME:
        return (
            f"The method is policy distillation (Rusu et al., 2015) with the loss {_code(settings['loss'])}, into a "
            f"{loaded_by(settings['engine'])[1]}; the student's hidden layers are {_code(settings['net_arch'])}."
        )
    row = get_method(settings["method"], settings["form"], settings["baseline"], weight=settings.get("weight"))
    loss, reward = (part.formula if part else "0" for part in (row.loss, row.reward))
    per = "for each episode" if settings.get("beta_per") == "episode" else "at a step"
    mixture = (
        f", the teacher with probability β = {settings['beta']:g} {per}" if settings.get("beta") is not None else ""
    )
    weight = "" if row.weight is None else f", times {'w' if row.state_weight else 'λ'} = {_code(row.weight.formula)}"
    lines = [
        f"The method is {_code(row.name)} in its {_code(settings['form'])} form on {loaded_by(settings['engine'])[1]}; the "
        f"student's hidden layers are {_code(settings['net_arch'])}. π is the teacher, π_θ the student.",
        "",
        f"* who plays: {_text(settings['control'])}{mixture}",
        f"* loss of a state: ℓ = {_code(loss)}, with weight {_number(settings['loss_coef'])}{weight}",
        f"* reward of a step: r̂ = {_code(reward)}, with weight {_number(settings['reward_coef'])}; the environment's own reward "
        f"with weight {_number(settings['env_reward_coef'])}",
    ]
    if "temperature" in teacher:
        lines.append(
            f"* the teacher's policy: (1−ε) softmax(Q/τ) + ε/|A| with τ = {teacher['temperature']:g} "
            f"({_text(teacher['temperature_report'])}) and ε = {teacher['epsilon']:g}"
        )
    return "\n".join(lines)


def _name(repo: str, revision: str | None) -> str:
    return f"hub:{repo}" if revision is None else f"hub:{repo}@{revision}"


def _number(value: Any) -> str:
    """A coefficient, which may be text such as "1 falling to 0"."""
    return f"{value:g}" if isinstance(value, (int, float)) else _text(value)


def _code(value: Any) -> str:
    """Text that Markdown shows as it is."""
    return f"`{_text(value).replace('`', chr(39))}`"


def _text(value: Any) -> str:
    """One line, which cannot end the block that it stands in."""
    text = str(value)
    if not text.isprintable():
        raise ValueError(f"{text!r} is more than a line of text")
    return text
