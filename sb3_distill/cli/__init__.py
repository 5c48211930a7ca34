"""The command line: ``sb3-distill``."""

from sb3_distill.cli.program import main as main
from sb3_distill.cli.program import make_parser as make_parser
