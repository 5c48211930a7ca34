"""rl_zoo3's ``enjoy``, with our algorithms: ``python zoo/enjoy.py --algo n_distill --env CartPole-v1 -f logs``."""

import os
import sys

#: above rl_zoo3's own help
NOTE = """This is rl_zoo3's enjoy, which evaluates text in an agent's config.yml as Python (its issue 505), and unpickles its zip, also of
what it downloads. For agents of others there is 'sb3-distill play FOLDER', which does neither.

"""


def main() -> int:
    """
    Watch a trained agent play; the arguments are rl_zoo3's.

    It evaluates text in the agent's ``config.yml`` as Python (its issue 505), and unpickles its zip. ``sb3-distill play`` does
    neither.

    :return: exit code
    """
    from sb3_distill.zoo.rl_zoo import run

    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.stdout.write(NOTE)
    return run("sb3-distill-enjoy", "enjoy")


if __name__ == "__main__":
    # `python zoo/enjoy.py` puts this folder first on the path, where its modules would hide others of the same name.
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != here]
    sys.exit(main())
