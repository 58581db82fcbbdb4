"""First poses from landmarks that are badly wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from densefit.fit import FitOptions, fit
from densefit.head.rotation import rotation_matrix
from tests.fit.synthetic import camera_ring, look_at_camera, observe, sample_truth, tiny_head

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
