"""Augmentation: labels stay on what they mark, and pictures stay pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from densefit.landmarks.crop import FaceLayout
from densefit.train import geometry, photometric
from densefit.train.augment import Augmenter, AugmentOptions
from densefit.train.backgrounds import background_bank
from densefit.train.dataset import Faces, ShardFolder
from densefit.train.random import Draws
from densefit.train.warp import Warp


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["plain", "warped"])
def test_labels_follow_the_picture(head, share: float) -> None:  # type: ignore[no-untyped-def]
    """A coloured spot at a landmark is found at the label in every crop, mirrored or not."""
    layout = FaceLayout.of(head)
    draws = Draws(3)
    size, count, which = 176, 24, 40
    landmarks = torch.from_numpy(head.template[:, :2] * np.array([8, -8], np.float32))
    landmarks = landmarks.repeat(count, 1, 1)
    rgba = torch.zeros(count, size, size, 4, dtype=torch.uint8)
    x, y = ((landmarks[0, which] + 1) * size / 2 - 0.5).tolist()
    v, u = np.mgrid[:size, :size]
    spot = (255 * np.exp(-0.5 * ((u - x) ** 2 + (v - y) ** 2) / 2.5**2)).astype(np.uint8)
    rgba[..., 3] = torch.from_numpy(spot)
    centre, side, roll = torch.zeros(count, 2), torch.full((count,), 1.6), torch.zeros(count)
    homography = geometry.random_crops(centre, side, roll, draws, geometry.CropOptions())
    warp = Warp.draw(count, share, draws) if share else None
    target = geometry.crop_landmarks(landmarks, homography, layout.mirror, warp)
    crops = geometry.crop_pictures(rgba, homography, 128, warp)[:, 3]
    mirrored = geometry.is_mirrored(homography)
    assert 4 < int(mirrored.sum()) < 20
    line = (torch.arange(128) + 0.5) / 64 - 1
    for i in range(count):
        label = which if not mirrored[i] else int(layout.mirror[which])
        place = torch.stack([(crops[i] * line).sum(), (crops[i] * line[:, None]).sum()])
        torch.testing.assert_close(
            place / crops[i].sum(), target[i, label], atol=0.015, rtol=0, msg=f"crop {i}"
        )


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["plain", "warped"])
def test_opencv_and_torch_sample_alike(share: float) -> None:
    draws = Draws(0)
    rgba = (draws.uniform(0, 1, 6, 44, 44, 4) * 255).to(torch.uint8)
    smooth = torch.nn.functional.interpolate(rgba.permute(0, 3, 1, 2).float(), 176, mode="bicubic")
    rgba = smooth.clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8).contiguous()
    zero = torch.zeros(6)
    homography = geometry.random_crops(
        torch.zeros(6, 2), zero + 0.9, zero, draws, geometry.CropOptions()
    )
    warp = Warp.draw(6, share, draws) if share else None
    fast = geometry.crop_pictures(rgba, homography, 128, warp)
    general = geometry.sample_with_torch(rgba, homography, 128, warp)
    assert (fast - general).abs().mean() < 0.01


def test_warps_change_proportions_and_can_be_undone() -> None:
    warp = Warp.draw(64, 0.6, Draws(1))
    points = 2 * torch.rand(64, 50, 2, generator=torch.Generator().manual_seed(0)) - 1
    back = warp.undone(points)
    torch.testing.assert_close(back + warp.shift(back), points, atol=5e-3, rtol=0)
    moved = (back - points).norm(dim=-1).amax(1)
    assert 30 < int((moved > 0.01).sum()) < 46, "about six of ten crops are warped"
    assert float(moved.max()) < 0.5


def test_batches_are_pictures_and_repeat_with_the_seed(head, shards: Path) -> None:  # type: ignore[no-untyped-def]
    store = ShardFolder(shards, "flat")
    bank = background_bank(12, 64, np.random.default_rng(0))
    options = AugmentOptions(size=64, faceless=0.25)

    def batch(seed: int):  # type: ignore[no-untyped-def]
        augmenter = Augmenter(FaceLayout.of(head), bank, Draws(seed), options)
        return augmenter(store.batch(np.arange(32)))

    one, same, other = batch(1), batch(1), batch(2)
    assert one.image.shape == (32, 3, 64, 64)
    assert torch.isfinite(one.image).all() and one.image.min() >= 0 and one.image.max() <= 1
    torch.testing.assert_close(one.image, same.image)
    torch.testing.assert_close(one.target, same.target)
    assert not torch.equal(one.image, other.image)
    assert int((one.presence == 0).sum()) == 8
    faces = one.target[one.presence > 0]
    assert float((faces.abs() < 1.3).float().mean()) > 0.9


def test_blur_and_low_resolution_keep_flat_pictures_flat() -> None:
    """Replicated borders: no dark frame."""
    flat = torch.full((16, 3, 64, 64), 0.6)
    out = photometric.random_resolution(flat, Draws(5))
    torch.testing.assert_close(out, flat, atol=1e-4, rtol=0)


def test_compression_is_close_to_the_real_thing() -> None:
    """Our blocks against a JPEG encoder of the same quality: similar, and both lose something."""
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    rough = rng.uniform(0, 1, (8, 8, 3)).astype(np.float32)
    picture = np.clip(cv2.resize(rough, (128, 128), interpolation=cv2.INTER_CUBIC), 0, 1)
    image = torch.from_numpy(picture).permute(2, 0, 1)[None]

    class Quality(Draws):
        def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
            return torch.full(shape, 20.0)

    ours = photometric.compress(image, Quality(0))[0].permute(1, 2, 0).numpy()
    _, coded = cv2.imencode(".jpg", (picture[..., ::-1] * 255).astype(np.uint8), [1, 20])
    theirs = cv2.imdecode(coded, 1)[..., ::-1] / 255.0
    lost = np.abs(theirs - picture).mean()
    assert np.abs(ours - theirs).mean() < 0.6 * lost
    assert 0.5 * lost < np.abs(ours - picture).mean() < 2 * lost


def test_targets_need_no_pictures(head, shards: Path) -> None:  # type: ignore[no-untyped-def]
    store = ShardFolder(shards, "flat")
    bank = background_bank(2, 64, np.random.default_rng(0))
    options = replace(AugmentOptions(), size=64)
    augmenter = Augmenter(FaceLayout.of(head), bank, Draws(0), options)
    landmarks, visible = store.labels(np.arange(10))
    _, _, target, seen = augmenter.targets(Faces(torch.empty(0), landmarks, visible))
    assert target.shape == (10, 703, 2) and seen.shape == (10, 703)
