"""A film that is whole, or is not there: a disk that fills up is found out, which no encoder says by itself."""

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sb3_distill.common.files import replacing

#: of WebM; others have imageio's own
CODECS = {".webm": "libvpx-vp9"}


def check_writable(path: Path, name: str) -> None:
    """
    :param path: of a film
    :param name: as the user calls it
    :raises OSError: if no file can be written there
    """
    if path.is_dir():
        raise IsADirectoryError(f"{name} is a folder: give the name of a file in it.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise type(error)(f"{name} cannot be written ({error.strerror or error}): choose another place.") from error


@contextmanager
def film_writer(path: Path, rate: float, name: str) -> Iterator[Callable[[np.ndarray], None]]:
    """
    Write a film, frame by frame.

    :param path: where it goes; it is there when it is whole
    :param rate: frames of a second
    :param name: as the user calls it
    :return: takes a picture, shape (height, width, 3)
    :raises OSError: if it cannot be written; what was there under that name stays
    """
    with replacing(path) as temporary:
        write = _gif if path.suffix.lower() == ".gif" else _video
        with write(temporary, rate, name) as take:
            yield take


@contextmanager
def _gif(path: Path, rate: float, name: str) -> Iterator[Callable[[np.ndarray], None]]:
    """Made in RAM, where it is held until its end anyway: imageio's writer tries a failed file again and again."""
    from imageio import v2

    with io.BytesIO() as buffer:
        with v2.get_writer(buffer, format="GIF", duration=1_000 / rate, loop=0) as writer:  # type: ignore[arg-type]
            yield writer.append_data  # type: ignore[attr-defined]
        try:
            path.write_bytes(buffer.getvalue())
        except OSError as error:
            raise _not_written(error, name) from error


@contextmanager
def _video(path: Path, rate: float, name: str) -> Iterator[Callable[[np.ndarray], None]]:
    from imageio import v2

    how = {"codec": CODECS[path.suffix.lower()]} if path.suffix.lower() in CODECS else {}
    # Video codecs take even sizes.
    writer = v2.get_writer(path, fps=rate, macro_block_size=2, ffmpeg_log_level="quiet", **how)
    n_frames = 0

    def take(picture: np.ndarray) -> None:
        nonlocal n_frames
        try:
            writer.append_data(picture)
        except OSError as error:  # ffmpeg has ended
            raise _not_written(error, name) from error
        n_frames += 1

    try:
        yield take
    finally:
        writer.close()
    found = _frames_in(path)
    if found < n_frames:
        raise OSError(f"{name} cannot be written: of {n_frames} frames {found} are there. Is the disk full?")


def _frames_in(path: Path) -> int:
    """How many pictures of a film can be read; ffmpeg ends without a word of what it could not write."""
    import imageio_ffmpeg

    try:
        return int(imageio_ffmpeg.count_frames_and_secs(str(path))[0])
    except (RuntimeError, OSError):
        return 0


def _not_written(error: OSError, name: str) -> OSError:
    reason = error.strerror or str(error).splitlines()[0]
    return OSError(f"{name} cannot be written ({reason}). Is the disk full?")
