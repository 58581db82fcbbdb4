"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; what was written there becomes `path` at the end.

    The temporary name keeps the suffix of `path`, because writers choose their format by it. When
    the block raises (Ctrl-C included), the temporary file is removed and an earlier `path` stays
    as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{_host()}-{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        _fsync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        # A full disk is told of the file that was wanted, not of its temporary name.
        if error.errno is None or error.filename not in (None, str(temporary), temporary):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of `atomic_path` whose process on this machine is no more."""
    for file in folder.glob(".*.part*"):
        match = _LEFTOVER.fullmatch(file.name)
        if match and match[1] == _host() and not _is_running(int(match[2])):
            file.unlink(missing_ok=True)


_LEFTOVER = re.compile(r"\..+\.([\w-]+)-(\d+)\.part(?:\.\w+)?")


def _host() -> str:
    return re.sub(r"[^\w-]", "_", socket.gethostname())


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _fsync(path: Path) -> None:
    """Wait until the file's content is on disk, so that the rename cannot overtake it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
