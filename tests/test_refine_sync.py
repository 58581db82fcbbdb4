"""Time offsets found by the motion of the head, from landmarks to corrected clocks."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from densefit.capture.sync_table import SyncTable
from densefit.capture.take import Take
from densefit.capture.timeline import match_frames
from densefit.errors import InputError
from densefit.fit.sync import Offsets
from densefit.fit_inputs import gather
from densefit.landmarks.files import LandmarkTrack
from densefit.refine_sync import (
    Excerpt,
    _corrected,
    _excerpts,
    _shift_and_drift,
    refine_sync,
)
from tests.fit.synthetic import camera_ring, hide, observe, sample_truth, tiny_head
from tests.fit.test_sync import FPS, PLAIN, shifted

NAMES = ("cam0", "cam1", "cam2")


def inputs_from(observations, cameras, sizes=None):
    """What `fit-rig` gives to the search, for landmarks in memory."""
    tracks = {
        name: LandmarkTrack(
            observations.xy[:, c].copy(), observations.sigma[:, c].copy(), observations.time,
            observations.valid[:, c], np.zeros((len(observations.time), 5)), "tiny",
        )
        for c, name in enumerate(NAMES)
    }  # fmt: skip

    def inputs_of(take: Take):
        times = [
            take.clock_rates.get(n, 1.0) * tracks[n].time + take.offsets.get(n, 0.0) for n in NAMES
        ]
        time, index = match_frames(times, 1 / FPS)
        phase = np.zeros(index.shape)
        for c, own in enumerate(times):
            found = index[:, c] >= 0
            phase[found, c] = own[index[found, c]] - time[found]
        timeline = SimpleNamespace(time=time, index=index, phase=phase)
        return gather(tracks, timeline, dict(zip(NAMES, cameras, strict=True)), {})

    return inputs_of


def test_offsets_are_found_and_landmarks_interpolated():
    head, cameras = tiny_head(), camera_ring(3)
    shifts = np.array([0.0, 0.4, 1.3])
    inputs_of = inputs_from(shifted(head, cameras, 40, list(shifts)), cameras)
    take = Take("t", dict.fromkeys(NAMES), None)
    found = refine_sync(take, head, PLAIN, inputs_of)
    offsets = np.array([found.offsets[name] for name in NAMES]) * FPS
    np.testing.assert_allclose(offsets, shifts, atol=0.05)
    assert found.clock_rates == dict.fromkeys(NAMES, 1.0)
    # What the fit then sees of camera 1 is what a camera in step would have seen.
    truth = sample_truth(head, 40 * 10 + 20, fps=FPS * 10)
    exact = observe(head, cameras, truth, 0.0).xy[np.arange(5, 35) * 10, 1]
    seen = inputs_of(found).observations
    rows = seen.take(np.arange(len(seen.time)))
    at = [int(np.abs(rows.time - t / FPS).argmin()) for t in range(5, 35)]
    assert np.abs(np.median(rows.xy[at, 1] - exact, axis=1)).max() < 1.0


def test_pictures_too_far_apart_to_interpolate_are_not_corrected_twice(monkeypatch):
    """Six pictures a second once ended half a frame off: the same correction was added again."""
    monkeypatch.setattr("densefit.fit_inputs.LONGEST_STEP", 0.5 / FPS)
    head, cameras = tiny_head(), camera_ring(3)
    inputs_of = inputs_from(shifted(head, cameras, 40, [0.0, 0.4, 0.2]), cameras)
    found = refine_sync(Take("t", dict.fromkeys(NAMES), None), head, PLAIN, inputs_of)
    offsets = np.array([found.offsets[name] for name in NAMES]) * FPS
    np.testing.assert_allclose(offsets, [0.0, 0.4, 0.2], atol=0.1)


def test_what_cannot_be_refined():
    head, cameras = tiny_head(), camera_ring(3)
    inputs_of = inputs_from(shifted(head, cameras, 5, [0.0] * 3), cameras)
    with pytest.raises(InputError, match="at least two cameras"):
        refine_sync(Take("t", {"cam0": None}, None), head, PLAIN, inputs_of)
    table = SyncTable(Path("t.csv"), {}, {name: np.arange(5) for name in NAMES})
    by_table = Take("t", dict.fromkeys(NAMES), None, sync="csv", sync_table=table)
    with pytest.raises(InputError, match="table itself"):
        refine_sync(by_table, head, PLAIN, lambda _: pytest.fail("predicted in vain"))


def test_an_excerpt_that_knows_nothing_leaves_the_word_to_the_other():
    some = np.arange(4)
    nothing = Offsets(np.zeros(2), np.array([0.0, np.nan]), some)
    clear = Offsets(np.array([0.0, 0.02]), np.array([0.0, 1e-4]), some)
    later = Offsets(np.array([0.0, 0.05]), np.array([0.0, 1e-4]), some)
    assert _shift_and_drift([Excerpt(1, nothing), Excerpt(11, clear)], 1) == (0.02, 0.0)
    assert _shift_and_drift([Excerpt(1, clear), Excerpt(11, nothing)], 1) == (0.02, 0.0)
    assert _shift_and_drift([Excerpt(1, nothing), Excerpt(11, nothing)], 1) == (0.0, 0.0)
    assert _shift_and_drift([Excerpt(1, clear), Excerpt(11, later)], 1) == (
        0.02, pytest.approx(0.003),
    )  # fmt: skip


def test_a_clock_that_runs_fast_is_found_from_frames_off_the_middle(monkeypatch):
    """Once an offset counted as that of the middle of a third of the take, wherever in it the head
    moved: drift and clock came out wrong."""
    drift, asked = 1e-3, []

    def measured(head, cameras, observations, options, within):
        frames = within.start + (np.arange(5) if within.start == 0 else np.arange(30, 35))
        late = drift * observations.time[frames].mean()
        spread = np.array([0.0, 1e-6, 1e-6])
        return Offsets(np.array([0.0, late, 0.0]), spread, frames)

    def lateness(column, frames):
        asked.append(frames)
        return 0.0

    monkeypatch.setattr("densefit.fit.fit_offsets", measured)
    monkeypatch.setattr("densefit.fit_inputs.Column.lateness", lateness)
    head, cameras = tiny_head(), camera_ring(3)
    take = Take("t", dict.fromkeys(NAMES), None)
    inputs = inputs_from(observe(head, cameras, sample_truth(head, 120)), cameras)(take)
    excerpts = _excerpts(head, inputs, replace(PLAIN, joint_frames=20))
    found = _corrected(take, list(NAMES), excerpts)
    assert found.clock_rates["cam1"] == pytest.approx(1 + drift, abs=1e-9)
    assert found.offsets["cam1"] == pytest.approx(0, abs=1e-9)
    assert {tuple(frames) for frames in asked} == {tuple(range(5)), tuple(range(110, 115))}


def test_a_single_frame_tells_nothing(capsys):
    head, cameras = tiny_head(), camera_ring(3)
    inputs_of = inputs_from(observe(head, cameras, sample_truth(head, 1)), cameras)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = refine_sync(Take("t", dict.fromkeys(NAMES), None), head, PLAIN, inputs_of)
    assert found.offsets == dict.fromkeys(NAMES, 0.0)
    assert "camera cam1: too little motion" in capsys.readouterr().err


def test_the_report_is_of_the_cameras_that_were_measured(capsys, monkeypatch):
    """On corrected clocks a camera may have no head in any frame any more."""

    def measured(head, cameras, observations, options, within):
        spread = {"cam0": 0.0, "cam1": np.nan, "cam2": 1e-3}
        std = np.array([spread[c.name] for c in cameras])
        return Offsets(np.zeros(len(cameras)), std, np.array(within))

    monkeypatch.setattr("densefit.fit.fit_offsets", measured)
    head, cameras = tiny_head(), camera_ring(3)
    observations = observe(head, cameras, sample_truth(head, 4))
    seen = np.ones((4, 3), bool)
    seen[:, 1] = False
    every, fewer = (inputs_from(o, cameras) for o in (observations, hide(observations, seen)))
    take = Take("t", dict.fromkeys(NAMES), None)
    refine_sync(take, head, PLAIN, lambda timed: (every if timed is take else fewer)(timed))
    said = capsys.readouterr().err
    assert "cam1: too little motion" in said and "cam2: +0.00 ms (give or take 1.00)" in said


def test_only_one_camera_sees_the_head(capsys):
    head, cameras = tiny_head(), camera_ring(3)
    observations = shifted(head, cameras, 12, [0.0] * 3)
    seen = np.zeros((12, 3), bool)
    seen[:, 0] = True
    inputs_of = inputs_from(hide(observations, seen), cameras)
    take = Take("t", dict.fromkeys(NAMES), None)
    assert refine_sync(take, head, PLAIN, inputs_of) is take
    assert "only camera cam0 shows a head" in capsys.readouterr().err
