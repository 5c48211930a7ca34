"""The name by which saved students of several tasks know their network."""

from sb3_distill.students.shared_trunk import SharedTrunk as SharedTrunk
from sb3_distill.students.shared_trunk import share as share
