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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("index", np.zeros((9, 5), np.int64)),
        ("index", np.zeros((9, 2))),
        ("timecode", np.zeros(4)),
        ("fps", np.array([25.0, np.nan])),
        ("fps", np.array([25.0, 0.0])),
        ("kinds", np.array(["video", "theatre"])),
        ("cameras", np.asarray("left")),
        ("range", np.array(["", "", "0"])),
        ("range", np.array(["", ""])),
    ],
)
def test_arrays_of_another_layout(out: Path, name: str, value: np.ndarray):
    path = out / "footage.npz"
    with np.load(path) as stored:
        arrays = {key: stored[key] for key in stored.files}
    np.savez(path, **{**arrays, name: value})
    with pytest.raises(InputError, match=r"footage\.npz: damaged .*; run fit-rig again"):
        read_footage(out)


def test_what_does_not_belong_to_the_fit(out: Path):
    footage = read_footage(out)
    assert footage is not None
    with pytest.raises(InputError, match=r"footage\.npz: no recording of camera 'top'"):
        footage.column("top")
    np.savez(out / "fit.npz", time=np.arange(8.0))
    with pytest.raises(InputError, match=r"footage\.npz: damaged \(9 frames, .*; run fit-rig"):
        read_footage(out)


def test_no_timecode_is_not_a_number(out: Path):
    footage = read_footage(out)
    assert footage is not None and np.isnan(footage.timecode).all() and not footage.drop_frame
