"""What distillation adds to SB3's on-policy algorithms."""

from sb3_distill.algorithms.distillation import Distillation as Distillation
