"""Tell whether a recording is still the one that earlier work was done on."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

from densefit.errors import InputError

_BLOCK_BYTES = 2**20


def fingerprint(files: Sequence[Path]) -> str:
    """Hash of the contents of some files in their order; their names and folders do not count.

    Every byte is read: a recording may be edited in place without another size or date, and
    reading costs seconds an hour of video, far less than any work on it.

    Raises:
        InputError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in files:
        try:
            stat = file.stat()
            digest.update(_of_file(file, stat.st_size, stat.st_mtime_ns))
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror}); check it") from error
    return digest.hexdigest()


@functools.cache
def _of_file(file: Path, size: int, changed: int) -> bytes:
    """Size and time of change only tell one run whether it has read the file before."""
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.digest()
