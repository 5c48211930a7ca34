"""The one exception for memories that cannot be read."""


class DamagedMemoryError(ValueError):
    """A memory that is truncated, altered, mixed, or of a format that is not known here. The message names the file."""
