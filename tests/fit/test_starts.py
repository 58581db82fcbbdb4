"""First poses from landmarks that are badly wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from densefit.errors import InputError
from densefit.fit import FitOptions, fit, joint_fit
from densefit.fit.data import frames_to_solve
from densefit.fit.joint_fit import SIZE_UNTOLD, JointFit
from densefit.fit.shots import segments
from densefit.head.rotation import rotation_matrix
from tests.fit.synthetic import camera_ring, hide, look_at_camera, observe, sample_truth, tiny_head

PLAIN = FitOptions(correlation=1.0, hidden_weight=1.0, model_sigma=0.0, sigma_scale=1.0)


@pytest.mark.parametrize("azimuth", [0, 55, -100])
def test_one_camera_with_a_third_of_the_landmarks_wrong(azimuth):
    head = tiny_head()
    camera = look_at_camera(np.deg2rad(azimuth), 0.1, 0.9, 1500.0, (1280, 960), "a")
    truth = sample_truth(head, 4, fps=2.0)
    observations = observe(head, [camera], truth, 0.7, outliers=0.33)
    result = fit(head, [camera], observations, replace(PLAIN, independent_frames=True))
    turn = rotation_matrix(truth.rotation).swapaxes(1, 2) @ rotation_matrix(result.rotation)
    angle = np.arccos(np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert angle.max() < 0.12


@pytest.mark.parametrize("roll", [180, 90])
def test_turned_camera(roll):
    """A camera hung upside down or on its side, a fifth of the landmarks wrong."""
    head = tiny_head()
    camera = look_at_camera(0.3, 0.1, 0.9, 1500.0, (1280, 960), "a")
    turn = np.eye(4)
    turn[:3, :3] = rotation_matrix(np.array([[0, 0, np.deg2rad(roll)]]))[0]
    camera = replace(camera, T_camera_world=turn @ camera.T_camera_world)
    truth = sample_truth(head, 4, fps=2.0)
    observations = observe(head, [camera], truth, 0.7, outliers=0.2)
    result = fit(head, [camera], observations, replace(PLAIN, independent_frames=True))
    assert np.abs(result.rotation - truth.rotation).max() < 0.12


def test_a_cut_is_not_smoothed_over():
    """Two shots of one person: the second begins elsewhere, turned; a frame of nonsense is none."""
    head = tiny_head()
    cameras = camera_ring(1)
    truth = sample_truth(head, 16)
    rotation, translation = truth.rotation.copy(), truth.translation.copy()
    rotation[9:] += [0, 0.9, 0]
    translation[9:] += [0.1, 0.05, -0.15]
    truth = replace(truth, rotation=rotation, translation=translation)
    observations = observe(head, cameras, truth, 0.5)
    job = JointFit(head, cameras, observations, PLAIN, np.arange(16))
    job.first_state()
    np.testing.assert_array_equal(job.shot, np.arange(16) >= 9)
    result = fit(head, cameras, observations, PLAIN)
    assert np.abs(result.rotation - rotation)[[8, 9]].max() < 0.05
    wrong = observations.xy.copy()
    wrong[4] = wrong[12]
    job = JointFit(head, cameras, replace(observations, xy=wrong), PLAIN, np.arange(16))
    job.first_state()
    assert job.shot[8] == 0


def two_shots(frames: int = 14, cut: int = 7):
    """First poses (T, 3, 3), (T, 3), scores (T,) and times (T,) of a film with one cut."""
    yaw = 0.02 * np.arange(frames) + 0.9 * (np.arange(frames) >= cut)
    rotation = torch.from_numpy(rotation_matrix(np.stack([0 * yaw, yaw, 0 * yaw], 1)))
    shift = torch.from_numpy(np.outer(np.arange(frames) >= cut, [0.1, 0.05, 0.35]))
    return rotation, shift, torch.full((frames,), 0.1).double(), np.arange(frames) / 30


def test_a_cut_with_an_unseen_or_a_poor_frame_at_it():
    """Once such shots stayed linked, and the head glided from one to the other."""
    rotation, shift, score, time = two_shots()
    unseen = score.clone()
    unseen[7] = torch.nan
    np.testing.assert_array_equal(segments(rotation, shift, unseen, time), np.arange(14) >= 8)
    # A poor pose that is not the earlier shot's is the later one's, and the other way around.
    for frame in (6, 7):
        poor = score.clone()
        poor[frame] = 0.6
        np.testing.assert_array_equal(segments(rotation, shift, poor, time), np.arange(14) >= 7)
    seen = unseen.isfinite().numpy()
    shot = segments(rotation, shift, unseen, time)
    assert 7 in frames_to_solve(seen, time, PLAIN)
    assert 7 not in frames_to_solve(seen, time, PLAIN, shot)


def test_poor_first_poses_are_no_cuts():
    """A head that turns away and back, of which the poses in between are nonsense."""
    rotation, shift, score, time = two_shots(cut=99)
    rotation[6:9], shift[6:9], score[6:9] = torch.eye(3).double(), 2.0, 0.9
    rotation[9:] = rotation[9:] @ torch.from_numpy(rotation_matrix(np.array([[0, 0.9, 0]])))[0]
    assert not segments(rotation, shift, score, time).any()


def test_shots_with_an_unseen_frame_between_are_not_linked():
    head, cameras = tiny_head(), camera_ring(1)
    truth = sample_truth(head, 14)
    rotation, translation = truth.rotation.copy(), truth.translation.copy()
    rotation[7:] += [0, 0.9, 0]
    translation[7:] += [0.1, 0.05, -0.35]
    truth = replace(truth, rotation=rotation, translation=translation)
    observations = hide(observe(head, cameras, truth, 0.5), np.arange(14)[:, None] != 7)
    job = JointFit(head, cameras, observations, PLAIN, np.arange(14))
    priors = job.first_state()[2]
    np.testing.assert_array_equal(priors.link_weights == 0, np.arange(13) == 7)
    result = fit(head, cameras, observations, PLAIN)
    np.testing.assert_array_equal(np.isnan(result.translation[:, 0]), np.arange(14) == 7)


def test_people_who_enter_late_and_leave():
    head = tiny_head()
    cameras = camera_ring(2)
    truth = sample_truth(head, 30)
    seen = np.zeros((30, 2), bool)
    seen[8:20, 0] = seen[11:24, 1] = True
    result = fit(head, cameras, hide(observe(head, cameras, truth, 0.5), seen), PLAIN)
    np.testing.assert_array_equal(result.valid, seen.any(1))
    assert np.abs(result.translation - truth.translation)[8:24].max() < 4e-3


def test_a_frame_without_sense_does_not_spoil_its_neighbours():
    head = tiny_head()
    cameras = camera_ring(2)
    truth = sample_truth(head, 9)
    observations = observe(head, cameras, truth, 0.5)
    rng = np.random.default_rng(0)
    observations.xy[4] = rng.uniform([0, 0], [1280, 960], observations.xy[4].shape)
    result = fit(head, cameras, observations, PLAIN)
    others = [0, 1, 2, 3, 5, 6, 7, 8]
    assert np.abs(result.translation - truth.translation)[others].max() < 1.5e-3
    assert np.abs(result.translation - truth.translation)[4].max() < 0.02
    assert np.nanmin(result.residual_px[4]) > 20 * np.nanmax(result.residual_px[others])


def test_two_cameras_where_one_found_something_else():
    head = tiny_head()
    cameras = camera_ring(3)
    truth = sample_truth(head, 6)
    observations = observe(head, cameras, truth, 0.5)
    observations.xy[:, 1] += [250, -120]
    result = fit(head, cameras, observations, PLAIN)
    assert np.abs(result.translation - truth.translation).max() < 3e-3
    assert (result.residual_px[:, 1] > 100).all() and (result.residual_px[:, [0, 2]] < 2).all()


def test_cameras_that_never_see_the_head_together():
    """Without extrinsics nothing tells where the second one stands: its frames are not guessed."""
    head, cameras = tiny_head(), camera_ring(2)
    seen = np.zeros((12, 2), bool)
    seen[:6, 0] = seen[6:, 1] = True
    observations = hide(observe(head, cameras, sample_truth(head, 12), 0.5), seen)
    bare = [replace(c, T_camera_world=None) for c in cameras]
    result = fit(head, bare, observations, PLAIN)
    assert result.cameras[1].T_camera_world is None
    np.testing.assert_array_equal(result.valid, seen[:, 0])
    for name in ("expression", "rotation", "translation", "joints", "rotation_std"):
        posed = np.isfinite(getattr(result, name)).reshape(12, -1).all(1)
        np.testing.assert_array_equal(posed, seen[:, 0])
    # With extrinsics all frames count, but no distance between cameras gives the head's size.
    assert result.scale_std < SIZE_UNTOLD + 0.01, "frames that tell nothing do not count"
    known = fit(head, cameras, observations, PLAIN)
    assert known.valid.all() and known.scale == "prior" and known.scale_std > 0
    # The camera that would be the world must see something.
    with pytest.raises(InputError, match="no frame has a head in cam0"):
        fit(head, bare, hide(observations, seen & [False, True]), PLAIN)


def test_a_camera_of_a_long_take_that_sees_the_head_once(monkeypatch):
    """Not in a frame that is looked at anyway, yet its place is found as from a short take."""
    monkeypatch.setattr(joint_fit, "START_FRAMES", 10)
    head, cameras = tiny_head(), camera_ring(3)
    seen = np.ones((40, 3), bool)
    seen[:, 2] = np.arange(40) == 21
    observations = hide(observe(head, cameras, sample_truth(head, 40), 0.5), seen)
    bare = [cameras[0], *(replace(c, T_camera_world=None) for c in cameras[1:])]
    long = replace(PLAIN, joint_frames=10, keyframes=6, window=14, overlap=3)
    found = fit(head, bare, observations, long)
    assert np.linalg.norm(found.cameras[2].position - cameras[2].position) < 0.01
    assert found.residual_px[21, 2] < 1


def test_heads_that_are_tiny_against_the_focal_length():
    """About 50 px in a picture of 4,000: OpenCV's solver of poses refuses these."""
    head = tiny_head()
    camera = look_at_camera(0.2, 0.1, 18.0, 4600.0, (3840, 2160), "far")
    truth = sample_truth(head, 3, fps=2.0)
    options = replace(PLAIN, independent_frames=True)
    result = fit(head, [camera], observe(head, [camera], truth, 0.1), options)
    assert (result.residual_px < 0.2).all()
    assert np.abs(result.rotation - truth.rotation).max() < 0.2
