"""Losses ℓ of two action distributions."""

from sb3_distill.rules.losses import *  # noqa: F403
