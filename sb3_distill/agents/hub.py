"""Agents of the Hugging Face Hub: a name becomes files in the cache of ``huggingface_hub``.

Whatever has to do with the network is that client's: its cache and the offline mode, tokens, ``HF_HOME``, ``HF_ENDPOINT`` and the
rest of its environment variables. Here names are read, files are chosen, and errors are said in one line. Nothing of what was
downloaded is opened.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

#: what the RL Zoo puts beside an agent
SETTINGS = ("config.yml", "args.yml", "env_kwargs.yml", "vec_normalize.pkl")
#: comes along because it says who made the agent, and under which licence
CARD = "README.md"
#: a zip of the RL Zoo's that is no agent: training curves
METRICS = "train_eval_metrics.zip"

_REPO = r"[^/@:\s]+/[^/@:\s]+"
_NAME = re.compile(rf"hub:(?P<repo>{_REPO})(@(?P<revision>[^@:\s]+))?(:(?P<file>[^/\\:]+\.zip))?")
_ZOO_RULE = re.compile(r"(?P<algo>[a-z0-9_]+)-(?P<env>.+-v\d+)")


class HubAgent(NamedTuple):
    """An agent's files in the cache, all of one commit; None is what its repository does not have.

    :param zip: the SB3 zip
    :param config: hyperparameters, ``config.yml``
    :param args: arguments of the training, ``args.yml``
    :param env_kwargs: of its environment, ``env_kwargs.yml``
    :param vec_normalize: statistics of a ``VecNormalize``, ``vec_normalize.pkl``
    :param algo: by the zoo's rule for names, ``ALGO-ENV``
    :param env_id: likewise; as it was called when the agent was trained
    :param repo: ``OWNER/REPO``
    :param revision: the commit's hash
    """

    zip: Path
    config: Path | None
    args: Path | None
    env_kwargs: Path | None
    vec_normalize: Path | None
    algo: str | None
    env_id: str | None
    repo: str
    revision: str


def hub_agent(name: str) -> HubAgent:
    """
    Download an agent, as far as the cache does not have it.

    The zip is ``REPO.zip``, as the RL Zoo names it, or else the only agent there is.

    :param name: ``"hub:OWNER/REPO"``; ``@REVISION`` after it pins a branch, a tag or a commit, and ``:FILE.zip`` after
        that picks an agent from several
    :return: where its files are
    :raises ValueError: for a name that is none
    :raises FileNotFoundError: if there is no such repository, revision or file, or none in the cache in offline mode
    :raises PermissionError: if the token is not accepted
    :raises ConnectionError: if the Hub cannot be reached or a download breaks off; the cache then has no half of a file
    :raises ImportError: without ``huggingface_hub``
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{name!r} is no agent of the Hub: write 'hub:OWNER/REPO', 'hub:OWNER/REPO@REVISION' or "
            "'hub:OWNER/REPO@REVISION:FILE.zip'."
        )
    repo, revision, file = match["repo"], match["revision"], match["file"]
    check_repo(repo)
    from huggingface_hub import hf_hub_download, snapshot_download

    with plain_errors(name):
        snapshot = Path(snapshot_download(repo, revision=revision, allow_patterns=[*SETTINGS, CARD]))
    if file is None:
        file = _only_agent(name, _agent_files(repo, snapshot))
    with plain_errors(name):
        # The zip comes last: a cache that has it also has its settings, whatever was interrupted before.
        path = Path(hf_hub_download(repo, file, revision=snapshot.name))
    config, args, env_kwargs, vec_normalize = (
        snapshot / setting if (snapshot / setting).is_file() else None for setting in SETTINGS
    )
    algo, env_id = zoo_rule(path.stem, repo.partition("/")[2])
    return HubAgent(path, config, args, env_kwargs, vec_normalize, algo, env_id, repo, snapshot.name)


def zoo_rule(*names: str) -> tuple[str | None, str | None]:
    """
    :param names: of a file without its suffix, a repository, …, such as ``"dqn-CartPole-v1"``
    :return: algorithm and environment id, by the first name that tells them; None and None if none does
    """
    match = next(filter(None, map(_ZOO_RULE.fullmatch, names)), None)
    if match is None:
        return None, None
    # The zoo writes "ALE/Pong-v5" as "ALE-Pong-v5".
    import gymnasium as gym  # which takes as long as the rest of the command line's help

    env_id = next((known for known in gym.registry if known.replace("/", "-") == match["env"]), match["env"])
    return match["algo"], env_id


def check_repo(repo: str) -> None:
    """
    Check, without a network, what the client would refuse.

    :param repo: ``OWNER/REPO``
    :raises ValueError: if no repository can have that name
    :raises ImportError: without ``huggingface_hub``
    """
    try:
        from huggingface_hub.utils import validate_repo_id
    except ImportError as error:
        raise ImportError("The Hub needs huggingface_hub: pip install 'sb3-distill[hub]'") from error
    if not re.fullmatch(_REPO, repo):
        raise ValueError(f"{repo!r} is no repository: write OWNER/REPO.")
    validate_repo_id(repo)


@contextmanager
def plain_errors(name: str) -> Iterator[None]:
    """
    Say in one line what goes wrong with the Hub; the client's own error is the cause of what is raised.

    :param name: of what is asked for
    :raises OSError: for every error of the client, the network and the Hub; see :func:`hub_agent` for the kinds
    """
    from huggingface_hub.errors import EntryNotFoundError, HTTPError

    try:
        yield
    # HTTPError is the base of the HTTP library's errors, whichever library the client uses; uploads and hf_xet raise
    # RuntimeError; what is no JSON comes from a server that is no Hub.
    except (EntryNotFoundError, HTTPError, OSError, RuntimeError, json.JSONDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk
        raise _plain(error, name) from error


def _plain(error: BaseException, name: str) -> OSError:
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    if isinstance(error, (errors.LocalEntryNotFoundError, RuntimeError)) and isinstance(
        error.__cause__, errors.HfHubHTTPError
    ):
        return _plain(error.__cause__, name)
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(
            f"No repository for {name!r} at {hub} that you may read: check the name; if it is private or gated, log in "
            "with 'hf auth login' or set HF_TOKEN."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(f"No such revision: {name!r}. It can be a branch, a tag or the hash of a commit.")
    if isinstance(error, errors.LocalEntryNotFoundError) and not constants.HF_HUB_OFFLINE:
        return ConnectionError(
            f"{hub} cannot be reached, and {name!r} is not in the cache: {_reason(error.__cause__)}."
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        return FileNotFoundError(f"{name!r} is not in the cache, and HF_HUB_OFFLINE is set: unset it to go online.")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return ConnectionError(f"{hub} is not asked about {name!r} while HF_HUB_OFFLINE is set: unset it to go online.")
    if isinstance(error, errors.EntryNotFoundError):
        return FileNotFoundError(f"No such file at {hub}: {name!r}.")
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
        return PermissionError(
            f"{hub} refuses {name!r}: {_reason(error)}. Log in with 'hf auth login', or set HF_TOKEN to a token that may."
        )
    return ConnectionError(f"The exchange with {hub} about {name!r} failed, try again: {_reason(error)}.")


def _reason(error: BaseException | None) -> str:
    """The first line of what an error says, without a full stop."""
    lines = (getattr(error, "server_message", None) or str(error)).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _agent_files(repo: str, snapshot: Path) -> list[str]:
    """The zips of a commit that can be its agent; without a network, those in the cache."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    usual = f"{repo.partition('/')[2]}.zip"
    if (snapshot / usual).is_file():
        return [usual]
    try:
        files = HfApi().list_repo_files(repo, revision=snapshot.name)
    except (HTTPError, OSError):
        # If the cache has no agent either, the download of the usual one will say what is wrong.
        files = [path.name for path in snapshot.glob("*.zip")] or [usual]
    agents = sorted(file for file in files if file.endswith(".zip") and "/" not in file and file != METRICS)
    return [usual] if usual in agents else agents


def _only_agent(name: str, files: list[str]) -> str:
    if not files:
        raise FileNotFoundError(f"{name!r} holds no agent: none of its files is a zip.")
    if len(files) > 1:
        raise FileNotFoundError(
            f"{name!r} holds several agents: add one of {', '.join(f':{file}' for file in files)} to the name."
        )
    return files[0]
