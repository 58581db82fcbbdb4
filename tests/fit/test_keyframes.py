"""Which frames of a long take are solved first, and which tell anything at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from densefit.fit import FitOptions, fit
from densefit.fit.keyframes import OF_EACH_CAMERA, with_frames_of
from tests.fit.synthetic import camera_ring, hide, observe, sample_truth, tiny_head

OPTIONS = FitOptions(correlation=1.0, threads=1)
LONG = replace(OPTIONS, joint_frames=16, keyframes=12, window=20, overlap=4)


def test_a_camera_without_a_place_gets_frames_that_another_sees_too():
    valid = np.zeros((200, 2), bool)
    valid[:103, 0] = valid[100:, 1] = True
    picked = np.r_[0:96:12, 110:198:11]
    score = np.zeros(200)
    assert not {100, 101, 102} & set(with_frames_of(picked, valid, [], score))
    assert {100, 101, 102} <= set(with_frames_of(picked, valid, [1], score))
    few = np.arange(0, 100, 8)
    found = with_frames_of(few, valid, [], score)
    assert valid[found, 1].sum() == OF_EACH_CAMERA  # or its sigma would not be measured


def test_a_camera_that_takes_over_is_placed_by_the_few_frames_that_both_see():
    head, cameras = tiny_head(), camera_ring(2)
    seen = np.zeros((90, 2), bool)
    seen[:47, 0] = seen[44:, 1] = True
    observations = hide(observe(head, cameras, sample_truth(head, 90, seed=3), 0.5), seen)
    bare = [cameras[0], replace(cameras[1], T_camera_world=None)]
    found = fit(head, bare, observations, LONG)
    assert np.linalg.norm(found.cameras[1].position - cameras[1].position) < 0.02
    assert np.nanmedian(found.residual_px, axis=0).max() < 1


def test_frames_of_a_camera_that_cannot_be_placed_count_for_nothing():
    head, cameras = tiny_head(), camera_ring(2)
    seen = np.zeros((60, 2), bool)
    seen[:12, 0] = seen[20:, 1] = True
    observations = hide(observe(head, cameras, sample_truth(head, 60, seed=6), 1.0), seen)
    bare = [replace(c, T_camera_world=None) for c in cameras]
    both = fit(head, bare, observations, OPTIONS)
    part = observations.take(np.arange(12))
    one = replace(part, xy=part.xy[:, :1], sigma=part.sigma[:, :1], valid=part.valid[:, :1])
    alone = fit(head, bare[:1], one, OPTIONS)
    assert both.cameras[1].T_camera_world is None
    np.testing.assert_allclose(both.identity, alone.identity, atol=5e-3)
    np.testing.assert_allclose(both.translation[:12], alone.translation, atol=3e-4)


def test_sigma_is_measured_of_a_known_camera_that_sees_the_head_rarely():
    head, cameras = tiny_head(), camera_ring(3)
    seen = np.ones((60, 3), bool)
    seen[:, 2] = np.isin(np.arange(60), [31, 32])
    observations = hide(observe(head, cameras, sample_truth(head, 60, seed=4), 2.0), seen)
    too_sure = replace(observations, sigma=observations.sigma / 4)
    found = fit(head, cameras, too_sure, LONG)
    assert found.sigma_scale[2] == pytest.approx(found.sigma_scale[0], rel=0.3)
    assert found.sigma_scale[0] > 1.7


def test_the_deviation_of_sizes_is_the_same_whichever_camera_is_the_world():
    head, cameras = tiny_head(), camera_ring(2)
    truth = sample_truth(head, 6, seed=4)
    known = replace(OPTIONS, identity=truth.identity)
    observations = observe(head, cameras, truth, 1.0)
    stated = []
    for world in (0, 1):
        bare = [c if i == world else replace(c, T_camera_world=None) for i, c in enumerate(cameras)]
        stated.append(fit(head, bare, observations, known).scale_std)
    assert stated[0] > 0
    assert stated[1] == pytest.approx(stated[0], rel=0.1)
