"""``sb3-distill distill --method policy-distillation``: what it has that the rows of the table do not."""

import argparse


def add_options(distill: argparse.ArgumentParser) -> None:
    """
    :param distill: the parser of ``sb3-distill distill``
    """
    add = distill.add_argument_group("the method, if it is policy-distillation").add_argument
    add("--loss", metavar="NAME", help="kl, nll or mse (default: kl)")
    add(
        "--memory",
        metavar="FOLDER",
        help="learn from what 'sb3-distill record' has written; by default the teacher plays while the student learns",
    )
