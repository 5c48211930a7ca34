"""What a damaged checkpoint raises."""

from sb3_distill.agents.errors import CheckpointError as CheckpointError
