"""``python -m sb3_distill.cli`` is ``sb3-distill``."""

import sys

from sb3_distill.cli.program import main

sys.exit(main())
