"""What was found once is kept in a file."""

import json
from pathlib import Path
from typing import Any

from sb3_distill.common.files import write_json


def cached(path: Path, make: Any, *args: Any) -> Any:
    """
    :param path: a JSON file
    :param make: called with ``args`` where there is no such file
    :param args: for ``make``
    :return: what the file holds
    """
    if not path.exists():
        write_json(path, make(*args))
    return json.loads(path.read_text())
