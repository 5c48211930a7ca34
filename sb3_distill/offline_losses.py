"""Losses of policy distillation from a teacher's answers."""

from sb3_distill.rules.offline_losses import *  # noqa: F403
