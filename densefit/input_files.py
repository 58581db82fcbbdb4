"""The files that a take is read from, which no result may replace."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from densefit.errors import InputError

if TYPE_CHECKING:
    from densefit.capture import Source, Take


def files_of(take: Take) -> Iterator[Path]:
    """Recordings, folders of pictures and their pictures, the rig file, the table of times."""
    for source in take.sources.values():
        yield source.path
        yield from source.files
    if take.rig is not None and take.rig.path is not None:
        yield take.rig.path
    if take.sync_table is not None:
        yield take.sync_table.path


def refuse_replacing(inputs: Iterable[Path], written: Iterable[Path]) -> None:
    """InputError when something that is read is one of the files that are going to be written.

    Files are the same by what they are, not by their names: links are followed.
    """
    doomed = {_identity(path) for path in written} - {None}
    for path in inputs:
        if _identity(path) in doomed:
            raise InputError(
                f"{path}: is read by this run, which would write over it; choose another output "
                "folder with -o"
            )


def shared_recordings(take: Take) -> list[tuple[str, str]]:
    """Pairs of cameras that have one and the same recording."""
    found = {name: _identity(_first_file(source)) for name, source in take.sources.items()}
    return [
        (one, two)
        for one, two in itertools.combinations(found, 2)
        if found[one] is not None and found[one] == found[two]
    ]


def _first_file(source: Source) -> Path:
    return source.files[0] if source.files else source.path


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of an existing file or folder."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None  # not there, as a pattern of file names
    return stat.st_dev, stat.st_ino
