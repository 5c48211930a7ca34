"""Rewards r̂ of transitions."""

from sb3_distill.rules.rewards import *  # noqa: F403
