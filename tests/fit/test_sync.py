"""Cameras whose clocks are off by parts of a frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from densefit.fit import FitOptions, fit_offsets
from densefit.fit.offsets import busiest_frames
from densefit.fit.sync import velocities
from tests.fit.synthetic import camera_ring, hide, observe, sample_truth, tiny_head

PLAIN = FitOptions(correlation=1.0, hidden_weight=1.0, model_sigma=0.0, sigma_scale=1.0)
FPS = 30.0


def shifted(head, cameras, frames: int, shifts: list[float]):
    """Landmarks of cameras whose frames were taken `shifts` frames later than they say."""
    fine = 10
    truth = sample_truth(head, frames * fine + 2 * fine, fps=FPS * fine)
    seen = observe(head, cameras, truth, 1.0)
    at = [np.arange(frames) * fine + round(s * fine) for s in shifts]
    xy = np.stack([seen.xy[a, c] for c, a in enumerate(at)], 1)
    sigma = np.stack([seen.sigma[a, c] for c, a in enumerate(at)], 1)
    return replace(
        seen, xy=xy, sigma=sigma, valid=np.ones((frames, len(cameras)), bool),
        time=np.arange(frames) / FPS,
    )  # fmt: skip


@pytest.mark.parametrize("shifts", [[0.0, 0.4, 0.0], [0.2, 0.0, 0.5]])
def test_offsets_of_a_part_of_a_frame(shifts):
    head, cameras = tiny_head(), camera_ring(3)
    found = fit_offsets(head, cameras, shifted(head, cameras, 40, shifts), PLAIN)
    expected = (np.array(shifts) - shifts[0]) / FPS
    np.testing.assert_allclose(found.seconds, expected, atol=0.1 / FPS)
    assert found.seconds[0] == found.std[0] == 0 and (found.std[1:] > 0).all()


def test_a_camera_that_sees_nothing_says_nothing():
    head, cameras = tiny_head(), camera_ring(3)
    observations = shifted(head, cameras, 20, [0.0, 0.0, 0.3])
    seen = np.ones((20, 3), bool)
    seen[:, 1] = False
    found = fit_offsets(head, cameras, hide(observations, seen), PLAIN)
    assert found.seconds[1] == 0 and np.isnan(found.std[1])
    assert found.seconds[2] == pytest.approx(0.3 / FPS, abs=0.1 / FPS)


def test_velocities_stop_at_cuts():
    world = torch.arange(5, dtype=torch.float64).square()[:, None, None].expand(5, 3, 2)
    time = torch.arange(5, dtype=torch.float64) * 0.5
    speed = velocities(world, time, torch.tensor([1.0, 1.0, 0.0, 1.0]))[:, 0, 0]
    torch.testing.assert_close(speed, torch.tensor([2.0, 4.0, 6.0, 14.0, 14.0]).double())


def test_the_busiest_excerpt():
    head, cameras = tiny_head(), camera_ring(2)
    observations = shifted(head, cameras, 60, [0.0, 0.0])
    still = observations.xy.copy()
    still[:25], still[45:] = still[25], still[45]
    observations = replace(observations, xy=still)
    picked = busiest_frames(observations, 18, range(60), [0, 1])
    assert picked[0] >= 24 and picked[-1] <= 46 and (np.diff(picked) == 1).all()
    found = fit_offsets(head, cameras, observations, replace(PLAIN, joint_frames=18))
    np.testing.assert_array_equal(found.frames, picked)


def test_the_excerpt_is_one_that_a_camera_of_known_place_sees():
    """Once the busiest frames were taken where the camera that is the world saw none of them."""
    head, cameras = tiny_head(), camera_ring(3)
    observations = shifted(head, cameras, 40, [0.0, 0.4, 0.2])
    observations.xy[:20] = observations.xy[:1] + 0.3 * (observations.xy[:20] - observations.xy[:1])
    seen = np.ones((40, 3), bool)
    seen[20:, 0] = False
    observations = hide(observations, seen)
    free = [replace(c, T_camera_world=None) for c in cameras]
    short = replace(PLAIN, joint_frames=12)
    found = fit_offsets(head, free, observations, short)
    assert found.frames[0] < 20 and np.isfinite(found.std).all()
    # The other two by themselves tell nothing of clocks or places.
    blind = fit_offsets(head, free, observations, short, range(20, 40))
    assert not blind.seconds.any() and blind.std[0] == 0 and np.isnan(blind.std[1:]).all()
    # Where all places are known, two are enough.
    assert busiest_frames(observations, 12, range(40), [0, 1, 2])[0] >= 19


def test_nothing_is_known_where_no_two_cameras_see_the_head_together():
    head, cameras = tiny_head(), camera_ring(2)
    observations = shifted(head, cameras, 24, [0.0, 0.3])
    seen = np.zeros((24, 2), bool)
    seen[4:12, 0] = seen[12:, 1] = True
    seen[22:] = True
    hidden = hide(observations, seen)
    for part in (range(4), range(4, 20)):
        found = fit_offsets(head, cameras, hidden, PLAIN, part)
        assert not found.seconds.any() and found.std[0] == 0 and np.isnan(found.std[1])
    alone = fit_offsets(head, cameras[:1], observe(head, cameras[:1], sample_truth(head, 3)), PLAIN)
    assert alone.seconds.tolist() == alone.std.tolist() == [0.0]
    # The excerpt is where two cameras see the head, were it a moment.
    seen[22] = [True, False]
    assert 23 in busiest_frames(hide(observations, seen), 6, range(24), [0, 1])
