"""Crops: what is cut comes back to the same pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from densefit.landmarks.crop import FaceLayout, crop_around, cut_crop, face_roll, to_picture


@pytest.fixture
def layout() -> FaceLayout:
    rng = np.random.default_rng(3)
    points = rng.uniform(-0.1, 0.1, (703, 2)).astype(np.float32)
    return FaceLayout(torch.arange(320), torch.from_numpy(points), torch.arange(703), "v")


@pytest.mark.parametrize("roll", [-2.5, -0.4, 0.0, 1.2])
def test_roll_and_box_of_a_turned_face(layout: FaceLayout, roll: float) -> None:
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    points = layout.upright.numpy() @ turn.T * 900 + [310, 170]
    assert float(face_roll(torch.from_numpy(points)[None].float(), layout)[0]) == pytest.approx(
        roll, abs=1e-3
    )
    x, y, side, found = crop_around(points[None], replace(layout, ratio=1.5))[0]
    assert found == pytest.approx(roll, abs=1e-3)
    box = layout.upright[:320].numpy()
    low, high = box.min(0), box.max(0)
    assert side == pytest.approx(1.5 * 900 * (high - low).max(), rel=1e-3)
    assert [x, y] == pytest.approx(turn @ ((low + high) / 2) * 900 + [310, 170], abs=0.05)


@pytest.mark.parametrize("side", [40.0, 128.0, 900.0])
@pytest.mark.parametrize("roll", [0.0, 0.5, -1.1])
def test_cut_crop_agrees_with_to_picture(side: float, roll: float) -> None:
    """The brightest spot of a crop, taken back to the picture, is where it was drawn."""
    size = 128
    y, x = np.mgrid[:1000, :1200]
    spot = np.array([640.3, 455.8]) + 0.11 * side * np.array([1.0, -0.7])
    width = 0.03 * side
    blob = np.exp(-0.5 * ((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / width**2)
    picture = np.repeat((blob * 255).astype(np.uint8)[..., None], 3, 2)
    roi = np.array([640.3, 455.8, side, roll])
    crop = cut_crop(picture, roi, size)[..., 0].astype(float)
    v, u = np.mgrid[:size, :size]
    place = np.array([(crop * u).sum(), (crop * v).sum()]) / crop.sum()
    units = (place + 0.5) * 2 / size - 1
    landmark = np.array([[[*units, np.log(0.1)]]])
    xy, sigma = to_picture(landmark, roi[None])
    assert xy[0, 0] == pytest.approx(spot, abs=0.012 * side)
    assert sigma[0, 0] == pytest.approx(0.05 * side)


def test_crop_far_outside_the_picture_is_filled() -> None:
    picture = np.full((20, 30, 3), 77, np.uint8)
    for roi in ([-500.0, -500.0, 64.0, 0.2], [15.0, 10.0, 4000.0, 0.0], [900.0, 9.0, 3000.0, 1.0]):
        assert (cut_crop(picture, np.array(roi), 32) == 77).all()
