"""How Sphinx builds these pages: ``make doc``."""

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from external_links import intersphinx_mapping as mapping_in  # noqa: E402

project = "sb3-distill"
author = "The sb3-distill developers"
project_copyright = "The sb3-distill developers"
release = version = version_of("sb3-distill")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "command_line",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "amsmath"]  # set by MathJax; without a network the source is read
myst_heading_anchors = 3
smartquotes_action = "D"  # dashes; s' is a state, and no quotation

intersphinx_mapping = mapping_in(HERE / "_build" / "inventories")

# Prompts are not copied, nor is what a command printed.
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"

html_theme = "furo"
html_title = f"{project} {version}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"


def escape_bars(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings have π(a|s) and log |A|, where reStructuredText would see names to be substituted. Code keeps its bars."""
    lines[:] = [re.sub(r"(``.*?``)|\|", lambda found: found[1] or r"\|", line) for line in lines]


def skip_fields(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """A named tuple's fields are in its docstring; Python's own word on each is "Alias for field number 0"."""
    return True if (obj.__doc__ or "").startswith("Alias for field number") else None


def setup(app: Any) -> None:
    """
    :param app: Sphinx
    """
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-skip-member", skip_fields)
