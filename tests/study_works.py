"""What a run of a study is in tests: named by its settings' ``tensorboard_log``, which no name of a folder depends on."""

import errno
import json
import os
import signal
import time
import zlib
from pathlib import Path

import numpy as np

#: for ``Study.run``
FAKE = "study_works:fake"
COLUMNS = "environment_steps,mean_return,standard_error,n_episodes,episodes_cut"


def fake(settings, folder):
    """Results as of a run, by a formula of the settings, and at once; "WORD NUMBER" says what goes wrong on the way."""
    (folder / "begun").write_text(
        f"{(folder / 'begun').read_text() if (folder / 'begun').exists() else ''}{os.getpid()}\n"
    )
    word, _, number = str(settings.get("tensorboard_log") or "").partition(" ")
    if word == "sleep":
        time.sleep(float(number))
    elif word == "fail" and settings["seed"] == int(number):
        print("something was printed")
        raise RuntimeError("a run that fails")
    elif word == "die" and settings["seed"] == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "die-once" and settings["seed"] == int(number) and len((folder / "begun").read_text().split()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "full" and settings["seed"] == int(number):
        raise OSError("No space left") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    write_results(settings, folder)


def write_results(settings, folder):
    text = json.dumps({name: value for name, value in settings.items() if name != "tensorboard_log"}, sort_keys=True)
    dice = np.random.default_rng(zlib.crc32(text.encode()))
    share = dice.uniform(0.3, 1.1)
    players = {"teacher": 100.0, "student": 20.0 + 80.0 * share, "random play": 20.0}
    data = {
        "settings": settings,
        "players": {
            name: {"mean_return": mean, "returns": [mean - 1.0, mean + 1.0], "parameters": 10}
            for name, mean in players.items()
        },
        "comparison": {"share_of_teacher": share},
    }
    curve = [(steps, 20.0 + 80.0 * share * steps / 1024) for steps in range(0, 1025, 256)]
    lines = "".join(f"{steps},{mean!r},0.5,20,0\n" for steps, mean in curve)
    (folder / "learning_curve.csv").write_text(f"{COLUMNS}\n{lines}")
    (folder / "student.zip").write_bytes(b"PK\5\6" + bytes(18))  # a zip with nothing in it
    (folder / "results.json").write_text(json.dumps(data))


def write_finished(study):
    """All runs of a study, as if they had been run."""
    for run in study.runs:
        folder = Path(study.out) / run.name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"format": "sb3-distill run of a study", **run.about}))
        write_results(run.settings, folder)
