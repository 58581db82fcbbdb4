"""Tell whether a recording is still the one that earlier work was done on."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

from densefit.errors import InputError

# Files up to this size are read whole. Of larger ones this much is read, in even steps, and their
# size and time of change count too: hours of video need not be read twice to be recognised.
WHOLE_BYTES = 16 * 2**20
_BLOCKS = 16


def fingerprint(files: Sequence[Path]) -> str:
    """Hash of the contents of some files in their order; their names and folders do not count.

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
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        if size <= WHOLE_BYTES:
            digest.update(stream.read())
            return digest.digest()
        digest.update(str(changed).encode())
        block = WHOLE_BYTES // _BLOCKS
        for i in range(_BLOCKS):
            stream.seek((size - block) * i // (_BLOCKS - 1))
            digest.update(stream.read(block))
    return digest.digest()
