"""Landmark files read by slices."""

from __future__ import annotations

import numpy as np
import pytest

from densefit.errors import InputError
from densefit.files import write_npz
from densefit.landmarks import slices
from densefit.landmarks.files import LandmarkTrack, write_landmarks


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A track of 40 frames and its file; nothing counts as small."""
    monkeypatch.setattr(slices, "LAZY_BYTES", 0)
    rng = np.random.default_rng(0)
    track = LandmarkTrack(
        rng.normal(size=(40, 7, 2)).astype(np.float32), rng.uniform(size=(40, 7)).astype("f4"),
        np.arange(40) / 30, np.arange(40) % 5 > 0, np.zeros((40, 5), np.float32), "v",
    )  # fmt: skip
    path = tmp_path / "left.npz"
    write_landmarks(path, track)
    return track, path


@pytest.mark.parametrize("rows", [[3, 4, 5, 30, 31, 2], [0], [39, 38], []])
def test_rows_are_those_of_the_whole(stored, rows):
    track, path = stored
    opened = slices.open_landmarks(path)
    assert isinstance(opened.xy, slices.ArrayOnDisk) and len(opened.sigma) == 40
    rows = np.array(rows, int)
    np.testing.assert_array_equal(opened.xy[rows], track.xy[rows])
    np.testing.assert_array_equal(opened.sigma[rows], track.sigma[rows])
    np.testing.assert_array_equal(opened.valid, track.valid)
    np.testing.assert_array_equal(opened.time, track.time)
    assert opened.landmarks_version == "v"


def test_damaged_files_are_named(stored):
    track, path = stored
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    with pytest.raises(InputError, match="left.npz"):
        slices.open_landmarks(path)
    write_npz(path, xy=track.xy[:9], sigma=track.sigma, time=track.time, valid=track.valid,
              roi=track.roi, landmarks_version=np.array("v"))  # fmt: skip
    with pytest.raises(InputError, match="different lengths"):
        slices.open_landmarks(path)
    with pytest.raises(InputError, match="none.npz"):
        slices.open_landmarks(path.with_name("none.npz"))
