"""rl_zoo3's ``enjoy``, with our algorithms: ``python zoo/enjoy.py --algo n_distill --env CartPole-v1 -f logs``."""

import os
import sys


def main() -> None:
    """Watch a trained agent play; the arguments are rl_zoo3's."""
    from sb3_distill.zoo.rl_zoo import rl_zoo3_module

    rl_zoo3_module("enjoy").enjoy()


if __name__ == "__main__":
    # `python zoo/enjoy.py` puts this folder first on the path, where its modules would hide others of the same name.
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != here]
    main()
