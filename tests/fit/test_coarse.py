"""Starts of all frames from those that are solved first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from densefit.fit import FitOptions, fit, so3
from densefit.fit.coarse import STRIDE, coarse_frames, spread_motion
from densefit.fit.state import Motion
from tests.fit.synthetic import camera_ring, observe, sample_truth, tiny_head

f8 = torch.float64


def motion(frames: int, seed: int) -> Motion:
    g = torch.Generator().manual_seed(seed)
    normal = lambda *s: torch.randn(frames, *s, generator=g, dtype=f8)  # noqa: E731
    return Motion(normal(52), so3.exp(0.5 * normal(3)), normal(3), normal(3), normal(4))


def test_frames_with_landmarks_and_the_ends_of_shots_come_first():
    seen, shot = np.ones(40, bool), np.repeat([0, 1], [17, 23])
    seen[:3] = False
    picked = coarse_frames(seen, shot)
    assert {3, 16, 17, 39} <= set(picked) and picked.min() == 3
    assert np.diff(picked).max() <= STRIDE
    assert not len(coarse_frames(np.zeros(5, bool), np.zeros(5, int)))


def test_solved_frames_are_kept_and_the_others_lie_between():
    first, solved = motion(11, 0), motion(3, 1)
    picked, shot = np.array([0, 4, 10]), np.zeros(11, int)
    out = spread_motion(first, picked, solved, shot)
    for name in Motion.__dataclass_fields__:
        torch.testing.assert_close(getattr(out, name)[picked], getattr(solved, name))
    torch.testing.assert_close(
        out.expression[2], 0.5 * (solved.expression[0] + solved.expression[1])
    )
    turn = first.rotation.mT @ out.rotation
    ends = so3.log(first.rotation[picked].mT @ solved.rotation)
    torch.testing.assert_close(so3.log(turn[7]), 0.5 * (ends[1] + ends[2]))


def test_nothing_is_carried_across_a_cut():
    first, solved = motion(6, 0), motion(2, 1)
    out = spread_motion(first, np.array([0, 5]), solved, np.array([0, 0, 0, 1, 1, 1]))
    torch.testing.assert_close(out.neck[:3], solved.neck[:1].expand(3, -1))
    torch.testing.assert_close(out.neck[3:], solved.neck[1:].expand(3, -1))


def test_sigmas_of_a_camera_that_no_coarse_frame_shows_are_measured():
    head, rig = tiny_head(), camera_ring(2)
    seen = observe(head, rig, sample_truth(head, 30, 3), 1.0)
    valid = seen.valid.copy()
    valid[:, 1] = False
    valid[1 : STRIDE - 1, 1] = True
    whole = fit(head, rig, seen, FitOptions()).sigma_scale
    part = fit(head, rig, replace(seen, valid=valid), FitOptions()).sigma_scale
    np.testing.assert_allclose(part, whole, rtol=0.25)
    assert part[1] != 1.0
