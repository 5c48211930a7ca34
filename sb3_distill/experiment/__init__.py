"""A run of ``sb3-distill distill``: what it is given, its folder, its checkpoints, and what came of it."""
