"""The libraries that files of memories need, and how to have them."""

try:
    import h5py
    from filelock import FileLock, Timeout
except ImportError:
    raise ImportError("A memory on disk needs h5py and filelock: pip install 'sb3-distill[memory]'.") from None

__all__ = ["FileLock", "Timeout", "h5py"]
