"""What a run is, and the name that its folder has for it: readable, and a digest of all that its result depends on."""

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple

from sb3_distill.experiment.outcome import PACKAGES
from sb3_distill.experiment.run_folder import NEUTRAL
from sb3_distill.experiment.settings import Settings

#: characters of the readable part and of the digest
READABLE, DIGEST = 80, 12


class Run(NamedTuple):
    """
    One run of a study.

    :param name: of its folder
    :param labels: from axes to what tables call its place on them
    :param settings: of :func:`~sb3_distill.distill`, all that are given
    :param about: what ``run.json`` says: settings, fingerprints, versions
    :param lines: from settings to the lines of the study's file that give them
    """

    name: str
    labels: dict[str, str]
    settings: dict[str, Any]
    about: dict[str, Any]
    lines: dict[str, int]


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """
    :return: of what a result depends on; of Python as it is written in the names of its packages, 3.11
    """
    return {"python": ".".join(platform.python_version_tuple()[:2])} | {name: version(name) for name in PACKAGES}


def about_run(settings: Settings, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """
    :param settings: of a run
    :param fingerprints: of its teacher and its memory
    :return: what it is, for JSON: without what changes nothing about its student
    """
    kept = {name: value for name, value in asdict(settings).items() if name not in NEUTRAL and value is not None}
    kept["net_arch"] = list(settings.net_arch)
    return {"settings": kept, "fingerprints": dict(fingerprints), "versions": versions()}


def digest_of(about: Mapping[str, Any]) -> str:
    """
    :param about: of :func:`about_run`, also as it was read from a file
    :return: which run it is
    """
    parts = {name: about.get(name) for name in ("settings", "fingerprints", "versions")}
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST]


def name_of(settings: Settings, about: Mapping[str, Any]) -> str:
    """
    :param settings: of a run
    :param about: of :func:`about_run`
    :return: of its folder
    """
    student = settings.size or "-".join(map(str, settings.net_arch)) or "linear"
    parts = (settings.method.replace("_", "-"), settings.engine, settings.env_id, student)
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)).strip("-.")[:READABLE]
    return f"{readable}-s{settings.seed}-{digest_of(about)}"
