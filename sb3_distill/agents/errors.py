"""The one exception for files that cannot be used."""


class CheckpointError(ValueError):
    """A file that is no usable checkpoint. The message says what is wrong with it."""
