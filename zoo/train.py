"""rl_zoo3's ``train``, with our algorithms: ``python zoo/train.py --algo n_distill --env CartPole-v1``."""

import os
import sys


def main() -> int:
    """
    Train an agent, or tune with ``-optimize``; the arguments are rl_zoo3's.

    :return: exit code
    """
    from sb3_distill.zoo.rl_zoo import run

    return run("sb3-distill-train", "train")


if __name__ == "__main__":
    # `python zoo/train.py` puts this folder first on the path, where its modules would hide others of the same name.
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != here]
    sys.exit(main())
