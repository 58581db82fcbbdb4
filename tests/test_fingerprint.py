"""A recording is recognised by every byte of it, wherever it lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from densefit.errors import InputError
from densefit.fingerprint import fingerprint


def big_file(path: Path, size: int = 24 * 2**20) -> Path:
    """Mostly a hole, which costs no disk."""
    with path.open("wb") as stream:
        stream.write(b"ftyp")
        stream.truncate(size)
    return path


def test_one_byte_in_the_middle_of_a_large_file(tmp_path: Path) -> None:
    """Same size, same date."""
    one, two = big_file(tmp_path / "a.mp4"), big_file(tmp_path / "b.mp4")
    assert fingerprint([one]) == fingerprint([two]), "names do not count"
    with two.open("r+b") as stream:
        stream.seek(13 * 2**20 + 7)
        stream.write(b"x")
    os.utime(two, ns=(one.stat().st_atime_ns, one.stat().st_mtime_ns))
    assert fingerprint([one]) != fingerprint([two])


def test_a_copy_of_another_date(tmp_path: Path) -> None:
    one, two = big_file(tmp_path / "a.mp4"), big_file(tmp_path / "b.mp4")
    os.utime(two, (0, 0))
    assert fingerprint([one]) == fingerprint([two])


def test_order_and_borders_count(tmp_path: Path) -> None:
    for name, data in {"a": b"12", "b": b"3", "c": b"1", "d": b"23"}.items():
        (tmp_path / name).write_bytes(data)
    a, b, c, d = (tmp_path / name for name in "abcd")
    assert len({fingerprint(files) for files in ([a, b], [b, a], [c, d], [a])}) == 4


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone.mp4: cannot be read"):
        fingerprint([tmp_path / "gone.mp4"])
