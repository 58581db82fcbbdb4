"""Landmarks of several cameras meet on the master timeline."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from calibration import Camera
from densefit.errors import InputError
from densefit.fit_inputs import changed_inputs, gather, input_hashes, with_unseen_cameras
from densefit.fit_outputs import master_frames
from tests.toy_fit import toy_head

CAMERAS = {name: Camera(name, 640, 480) for name in ("a", "b", "c")}


def track(frames: int, valid: list[int], offset: float) -> SimpleNamespace:
    """Landmarks whose x is offset + frame number."""
    xy = np.full((frames, 703, 2), np.nan, np.float32)
    sigma = np.full((frames, 703), np.nan, np.float32)
    mask = np.zeros(frames, bool)
    mask[valid] = True
    xy[mask] = offset + np.flatnonzero(mask)[:, None, None]
    sigma[mask] = 1.5
    return SimpleNamespace(xy=xy, sigma=sigma, valid=mask, time=np.arange(frames) / 25)


def timeline(*columns: list[int]) -> SimpleNamespace:
    index = np.array(columns).T
    return SimpleNamespace(index=index, time=np.arange(len(index)) / 25, phase=None)


def test_frames_meet_by_index():
    tracks = {"a": track(4, [0, 1, 3], 100), "b": track(3, [0, 1, 2], 200)}
    inputs = gather(tracks, timeline([0, 1, 2, 3], [-1, 0, 1, 2]), CAMERAS, {})
    seen = inputs.observations.take(np.arange(4))
    assert seen.valid.tolist() == [[True, False], [True, True], [False, True], [True, True]]
    assert seen.xy[3, 0, 0, 0] == 103 and seen.xy[3, 1, 0, 0] == 202
    assert np.isnan(seen.xy[0, 1]).all() and np.isnan(seen.sigma[2, 0]).all()


def test_camera_without_a_face_is_left_out_with_a_warning(capsys):
    tracks = {"a": track(2, [], 0), "b": track(2, [1], 200)}
    inputs = gather(tracks, timeline([0, 1], [0, 1]), CAMERAS, {})
    assert [c.name for c in inputs.cameras] == ["b"] and [c.name for c in inputs.unseen] == ["a"]
    assert inputs.observations.take(np.arange(2)).xy.shape == (2, 1, 703, 2)
    assert "camera a: no face" in capsys.readouterr().err
    full = with_unseen_cameras(np.array([[np.nan], [2.0]]), inputs, ["a", "b"])
    np.testing.assert_array_equal(full, [[np.nan, np.nan], [np.nan, 2.0]])


def test_no_head_anywhere():
    with pytest.raises(InputError, match="no face found in any frame of a, b"):
        gather({"a": track(2, [], 0), "b": track(2, [], 0)}, timeline([0, 1], [0, 1]), CAMERAS, {})


def test_photos_of_another_size_are_scaled():
    sizes = {"a": [(640, 480), (320, 240)]}
    inputs = gather({"a": track(2, [0, 1], 0)}, timeline([0, 1]), CAMERAS, sizes)
    assert inputs.observations.take(np.arange(2)).xy[1, 0, 0, 0] == pytest.approx(
        (1 + 0.5) * 2 - 0.5
    )
    assert inputs.observations.take(np.arange(2)).sigma[:, 0, 0].tolist() == [1.5, 3.0]


def test_hashes_tell_what_changed():
    head = toy_head()
    inputs = gather({"a": track(2, [0, 1], 0)}, timeline([0, 1]), CAMERAS, {})
    before = input_hashes(inputs, head, {"weight": 1.0})
    assert changed_inputs(before, input_hashes(inputs, head, {"weight": 1.0})) == []
    inputs.observations.columns[0].track.xy[0, 5, 0] += 1
    after = input_hashes(inputs, head, {"weight": 2.0})
    assert changed_inputs(before, after) == ["landmarks", "options"]
    assert changed_inputs(None, after) == list(after)


def test_hashes_tell_what_a_rig_file_says_beside_the_cameras():
    """How sure it is of them is the prior of --refine-cameras; what is up goes into the results."""
    head, tracks = toy_head(), {"a": track(2, [0, 1], 0)}
    plain = input_hashes(gather(tracks, timeline([0, 1]), CAMERAS, {}), head, {})
    sure = {"a": replace(CAMERAS["a"], std={"rotation": 1e-3})}
    known = gather(tracks, timeline([0, 1]), sure, {})
    assert changed_inputs(plain, input_hashes(known, head, {})) == ["cameras"]
    up = np.array([0.0, 0.0, 1.0])
    assert changed_inputs(input_hashes(known, head, {}), input_hashes(known, head, {}, up)) == [
        "cameras"
    ]


def test_master_frames_is_the_inverse_of_the_timeline():
    assert master_frames(np.array([-1, 0, 1, -1, 3])).tolist() == [1, 2, -1, 4]
    assert len(master_frames(np.array([-1, -1]))) == 0
