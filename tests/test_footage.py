"""footage.npz finds each master frame's picture again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from recordings import read_number

from densefit.errors import InputError
from densefit.footage import need_footage, read_footage
from tests.export.rig_fixture import write_toy_footage, write_toy_rig


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    write_toy_rig(folder)
    write_toy_footage(folder)
    return folder


def numbers(out: Path, camera: str, frames: list[int]) -> dict[int, int]:
    footage = need_footage(out, "the test")
    return {frame: read_number(image) for frame, image in footage.pictures(camera, frames)}


def test_pictures_of_master_frames(out: Path):
    assert numbers(out, "left", [7, 2]) == {2: 2, 7: 7}
    assert numbers(out, "right", [0, 3, 8]) == {3: 2, 8: 7}  # one late, none at frame 0


def test_folder_and_recordings_may_move_together(out: Path, tmp_path: Path):
    moved = tmp_path / "elsewhere"
    shutil.move(out, moved)
    assert numbers(moved, "left", [4]) == {4: 4}


def test_gone_recordings_and_damage_are_named(out: Path):
    shutil.rmtree(out / "recordings")
    with pytest.raises(InputError, match=r"left\.mov"):
        numbers(out, "left", [1])
    (out / "footage.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"footage\.npz"):
        read_footage(out)
    (out / "footage.npz").unlink()
    assert read_footage(out) is None
    with pytest.raises(InputError, match="the test needs it"):
        need_footage(out, "the test")


def test_no_timecode_is_not_a_number(out: Path):
    footage = read_footage(out)
    assert footage is not None and np.isnan(footage.timecode).all() and not footage.drop_frame
