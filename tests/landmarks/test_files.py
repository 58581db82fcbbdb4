"""The fixed file format, and parts that survive an interruption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densefit.errors import InputError
from densefit.landmarks.files import (
    PART_FRAMES,
    LandmarkTrack,
    PartWriter,
    read_landmarks,
    write_landmarks,
)


def _frame(i: int) -> tuple[np.ndarray, np.ndarray, float, np.ndarray | None]:
    rng = np.random.default_rng(i)
    roi = None if i % 7 == 3 else rng.random(5)
    return rng.normal(size=(703, 2)), rng.random(703), i / 30, roi


def test_track_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    track = LandmarkTrack(
        rng.normal(size=(5, 703, 2)).astype(np.float32),
        rng.random((5, 703)).astype(np.float32),
        np.arange(5) / 25,
        np.array([True, True, False, True, True]),
        rng.random((5, 5)).astype(np.float32),
        "v1",
    )
    write_landmarks(tmp_path / "a.npz", track)
    back = read_landmarks(tmp_path / "a.npz")
    assert back.landmarks_version == "v1"
    for name in ("xy", "sigma", "time", "valid", "roi"):
        np.testing.assert_array_equal(getattr(back, name), getattr(track, name))


def test_parts_are_joined_in_order_and_nothing_is_lost(tmp_path: Path) -> None:
    count = 2 * PART_FRAMES + 9
    writer = opened(tmp_path, {"job": 1})
    for i in range(count):
        writer.add(*_frame(i))
    path = writer.finish()
    track = read_landmarks(path)
    assert len(track) == count and track.landmarks_version == "v1"
    assert track.xy.dtype == track.sigma.dtype == np.float32 and track.time.dtype == np.float64
    np.testing.assert_allclose(track.time, np.arange(count) / 30)
    for i in (0, 3, PART_FRAMES - 1, PART_FRAMES, count - 1):
        xy, _, _, roi = _frame(i)
        assert track.valid[i] == (roi is not None)
        if roi is None:
            assert np.isnan(track.xy[i]).all() and np.isnan(track.sigma[i]).all()
            assert track.roi[i, 4] == 0
        else:
            np.testing.assert_allclose(track.xy[i], xy, rtol=1e-6)
    assert not (tmp_path / ".parts" / "cam").exists()


def test_interrupted_work_goes_on_and_another_job_is_refused(tmp_path: Path) -> None:
    first = opened(tmp_path, {"frames": 1})
    for i in range(PART_FRAMES + 40):
        first.trail = {"lost": np.array(i)}
        first.add(*_frame(i))
    again = opened(tmp_path, {"frames": 1})
    assert again.frames_done == PART_FRAMES and not again.finished
    assert again.trail_before(PART_FRAMES) == {"lost": PART_FRAMES - 1}
    assert again.trail_before(0) == {"lost": 0}
    with pytest.raises(InputError, match="made from other frames.*--overwrite"):
        opened(tmp_path, {"frames": 2})
    for i in range(PART_FRAMES, PART_FRAMES + 5):
        again.add(*_frame(i))
    again.finish()
    track = read_landmarks(tmp_path / "cam.npz")
    np.testing.assert_allclose(track.time, np.arange(PART_FRAMES + 5) / 30)
    finished = opened(tmp_path, {"frames": 1}, start=False)
    assert finished.finished
    xy, _, _, roi = _frame(PART_FRAMES - 1)
    known = finished.trail_before(PART_FRAMES)
    if roi is None:
        assert known == {"lost": 1}
    else:
        np.testing.assert_allclose(known["xy"], xy, rtol=1e-6)
    with pytest.raises(InputError, match=r"cam\.npz.*--overwrite"):
        opened(tmp_path, {"frames": 2})
    other = opened(tmp_path, {"frames": 2}, overwrite=True)
    assert not other.finished and other.frames_done == 0 and not (tmp_path / "cam.npz").exists()


def test_parts_behind_a_gap_do_not_count(tmp_path: Path) -> None:
    """Left by a run that was killed while it removed them."""
    first = opened(tmp_path, {"frames": 1})
    for i in range(3 * PART_FRAMES):
        first.add(*_frame(i))
    (tmp_path / ".parts" / "cam" / "000001.npz").unlink()
    again = opened(tmp_path, {"frames": 1})
    assert again.frames_done == PART_FRAMES
    for i in range(PART_FRAMES, 2 * PART_FRAMES + 1):
        again.add(*_frame(i))
    again.finish()
    assert len(read_landmarks(tmp_path / "cam.npz")) == 2 * PART_FRAMES + 1


def opened(
    folder: Path, job: dict[str, int], overwrite: bool = False, start: bool = True
) -> PartWriter:
    writer = PartWriter(folder, "cam", "v1", job, overwrite)
    writer.check()
    if start:
        writer.open()
    return writer


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cam.npz"
    path.write_bytes(b"PK nonsense")
    with pytest.raises(InputError, match=r"cam\.npz"):
        read_landmarks(path)
    np.savez(path, xy=np.zeros((1, 703, 2)))
    with pytest.raises(InputError, match="not a file of landmarks"):
        read_landmarks(path)
