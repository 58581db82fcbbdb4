"""`--fps`: the same motion at another rate, in every format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from densefit.export.resample import nearest_frames, resample
from densefit.export.scene import ExportOptions, frame_vertices, load_scene
from densefit.fit_file import FitFile, read_fit
from densefit.head.model import HeadModel
from densefit.head.rotation import rotation_matrix
from tests.toy_fit import write_toy_fit

AXIS = np.array([2.0, -1.0, 2.0]) / 3


@pytest.fixture
def turning(out: Path, head: HeadModel) -> FitFile:
    """25 frames/s from 1.5 s: turns by 0.5 rad a frame past half a turn, all else goes linearly."""
    fit = read_fit(out, head)
    step = np.arange(fit.n_frames)[:, None]
    joints = fit.joints.copy()
    joints[:, 2] = step * [0.02, 0.0, 0.0]
    return replace(
        fit,
        rotation=np.where(fit.posed[:, None], (2.0 + 0.5 * step) * AXIS, np.nan),
        translation=np.where(fit.posed[:, None], step * [0.01, 0.0, 0.02], np.nan),
        joints=np.where(fit.posed[:, None, None], joints, np.nan),
    )


def test_constant_motion_stays_what_it_is(turning: FitFile):
    """Frames 5 to 8 at 60 a second: every value of a uniform motion is known in closed form."""
    shown = resample(turning, np.arange(5, 9), 60.0)
    assert shown.n_frames == 8 and shown.fps == 60
    np.testing.assert_allclose(shown.time, 1.5 + 5 / 25 + np.arange(8) / 60)
    step = 25 * (shown.time - 1.5)[:, None]
    np.testing.assert_allclose(shown.translation, step * [0.01, 0.0, 0.02], atol=1e-12)
    np.testing.assert_allclose(shown.rotation, (2.0 + 0.5 * step) * AXIS, atol=1e-9)
    np.testing.assert_allclose(shown.joints[:, 2], step * [0.02, 0.0, 0.0], atol=1e-9)
    jaw = np.interp(shown.time, turning.time[5:], turning.expression[5:, 17])
    np.testing.assert_allclose(shown.expression[:, 17], jaw, atol=1e-12)


def test_recorded_frames_are_kept(turning: FitFile):
    """At twice the rate every other frame is a recorded one, next to a gap too."""
    shown = resample(turning, np.arange(9), 50.0)
    assert shown.n_frames == 17
    for name in ("expression", "translation", "joints", "residual_px", "valid"):
        np.testing.assert_allclose(getattr(shown, name)[::2], getattr(turning, name), atol=1e-12)
    np.testing.assert_allclose(
        rotation_matrix(shown.rotation[::2]), rotation_matrix(turning.rotation), atol=1e-9
    )
    # Frames 3 and 4 have no head; nor has what lies between them and their neighbours.
    assert list(np.flatnonzero(~shown.posed)) == [5, 6, 7, 8, 9]
    assert not shown.valid[5:10].any()


def test_uneven_times_and_slower_rates(turning: FitFile):
    uneven = replace(turning, time=1.5 + np.array([0, 1, 2, 3, 4, 5, 5.5, 8, 9]) / 25)
    shown = resample(uneven, np.array([5, 6, 7, 8]), 12.5)
    np.testing.assert_allclose(shown.time - 1.5, [0.2, 0.28, 0.36])
    # At 0.28 s, 0.6 of the way from frame 6 (0.22 s) to 7 (0.32 s).
    np.testing.assert_allclose(shown.translation[1], 6.6 * np.array([0.01, 0.0, 0.02]))
    assert list(nearest_frames(uneven, np.array([5, 6, 7, 8]), shown.time)) == [5, 7, 8]
    single = resample(turning, np.array([2]), 60.0)
    assert single.n_frames == 1 and single.posed.all()


def test_scene_shows_the_same_moments(out: Path, head: HeadModel):
    scene = load_scene(out, head, ExportOptions(fps=50, frames="5:"))
    assert scene.fps == 50 and list(scene.frames) == list(range(7))
    assert list(scene.recorded_frames) == [5, 6, 7, 8]
    assert list(scene.moments[::2]) == [5, 6, 7, 8]
    np.testing.assert_allclose(scene.seconds(scene.frames), np.arange(7) / 50)
    expected = frame_vertices(scene.recorded, head, np.arange(5, 9))
    np.testing.assert_allclose(frame_vertices(scene.fit, head)[::2], expected, atol=1e-6)


def test_independent_photos_have_no_time_between_them(tmp_path: Path, head: HeadModel):
    import json

    write_toy_fit(tmp_path, head)
    meta = tmp_path / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "independent_frames": True}))
    scene = load_scene(tmp_path, head, ExportOptions(fps=2))
    assert len(scene.frames) == 9
    np.testing.assert_allclose(scene.seconds(scene.frames), np.arange(9) / 2)
