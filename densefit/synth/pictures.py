"""Finished pictures for `densefit synth`: renders before a background, degraded like photographs,
with their labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from densefit.errors import UsageError
from densefit.files import atomic_path, ensure_out_dir, write_npz
from densefit.head.model import HeadModel
from densefit.model_file import open_head
from densefit.progress import progress
from densefit.synth.light import load_environments
from densefit.synth.people import People
from densefit.synth.render import RenderBatch, Renderer
from densefit.synth.sampling import to_device
from densefit.synth.scene import SceneOptions, sample_scene
from densefit.train import occluders, photometric
from densefit.train.backgrounds import background_bank
from densefit.train.random import Draws

BATCH = 4
BACKGROUNDS = 24
"""Backgrounds in memory at once; they are cut anew for every picture's turn and brightness."""
SMALLEST, LARGEST = 64, 1024


@dataclass(frozen=True)
class PictureOptions:
    """What `synth` writes.

    count: pictures. size: pixels a side, a multiple of 16. seed: of everything random.
    environments: folder of HDR panoramas for light and background. augment: occluders, blur, noise,
    colour and compression, as cameras do. parts: write part masks too. device: cpu or cuda.
    model: other head model than the shipped one.
    """

    count: int = 16
    size: int = 256
    seed: int = 0
    environments: Path | None = None
    augment: bool = True
    parts: bool = False
    device: str = "cpu"
    model: Path | None = None
    scene: SceneOptions = SceneOptions(margin=(1.3, 2.2), jitter=0.12)


def write_pictures(out: Path, options: PictureOptions) -> Path:
    """Write 000000.png ... and labels.npz into `out`; returns the path of the labels.

    labels.npz: landmarks (N, 703, 2) float32 px, pixel centres at integers; depth (N, 703) metres
    in front of the camera; visible (N, 703) bool; K (N, 3, 3) px; rotation (N, 3, 3) and
    translation (N, 3), head to camera; identity (N, K); expression (N, 52); joints (N, 4, 3);
    landmarks_version.

    Raises:
        UsageError: the size is out of range. InputError: no panoramas, or `out` not writable.
    """
    if options.size % 16 or not SMALLEST <= options.size <= LARGEST:
        raise UsageError(
            f"--size {options.size}: give a multiple of 16 from {SMALLEST} to {LARGEST}"
        )
    out = ensure_out_dir(out)
    head = open_head(options.model)
    maps = load_environments(options.environments) if options.environments else None
    renderer = Renderer(head, options.device)
    generator = torch.Generator().manual_seed(options.seed)
    finish = _Finish(options)
    labels: list[dict[str, np.ndarray]] = []
    with progress(options.count, "synth", unit="pictures") as bar:
        for start in range(0, options.count, BATCH):
            number = min(BATCH, options.count - start)
            scene = sample_scene(
                number, generator, head.identity_count, renderer.root_counts, maps, options.scene
            )
            batch = renderer.render(to_device(scene, options.device), options.size)
            _write(out, start, finish(batch), batch, options.parts)
            labels.append(_labels(batch, scene.people, head))
            bar.advance(number)
    arrays = {name: np.concatenate([part[name] for part in labels]) for name in labels[0]}
    path = out / "labels.npz"
    write_npz(path, landmarks_version=np.array(head.landmarks_version), **arrays)
    return path


class _Finish:
    """Puts backgrounds behind and cameras before the renders."""

    def __init__(self, options: PictureOptions) -> None:
        self.options = options
        self.draws = Draws(options.seed, "cpu")
        rng = np.random.default_rng(options.seed)
        self.backgrounds = background_bank(BACKGROUNDS, options.size, rng, options.environments)
        self.noise = photometric.noise_bank(options.size, self.draws)

    def __call__(self, batch: RenderBatch) -> Tensor:
        """(B, 3, S, S) uint8 display values."""
        rgba = batch.rgba.cpu().float() / 255
        draws, count = self.draws, len(rgba)
        chosen = self.backgrounds[draws.integers(0, len(self.backgrounds), count)].float() / 255
        flip = draws.chance(0.5, count, 1, 1, 1)
        background = torch.where(flip, chosen.flip(-1), chosen)
        image = torch.lerp(background, rgba[:, :3], rgba[:, 3:])
        if self.options.augment:
            alpha = rgba[:, 3].mean((1, 2), keepdim=False).clamp_min(1e-3)
            skin = (rgba[:, :3] * rgba[:, 3:]).mean((2, 3)) / alpha[:, None]
            fill = self.backgrounds[:8].float() / 255
            if count >= 3:  # shares of very small batches would hit every picture
                occluders.occlude(image, fill, skin, draws)
            image = photometric.random_colour(image, draws)
            image = self._some(0.5, image, lambda x: photometric.random_resolution(x, draws))
            image = self._some(0.5, image, lambda x: photometric.add_noise(x, self.noise, draws))
            image = self._some(0.3, image, lambda x: photometric.compress(x.clamp(0, 1), draws))
        return (image.clamp(0, 1) * 255).round().to(torch.uint8)

    def _some(self, share: float, image: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        chosen = self.draws.chance(share, len(image)).nonzero()[:, 0]
        if len(chosen):
            image[chosen] = change(image[chosen])
        return image


def _labels(batch: RenderBatch, people: People, head: HeadModel) -> dict[str, np.ndarray]:
    expression = head.with_gaze(people.expression.numpy(), people.joints.numpy())
    return {
        "landmarks": batch.landmarks_px.cpu().numpy(),
        "depth": batch.depth.cpu().numpy(),
        "visible": batch.visible.cpu().numpy(),
        "K": batch.views.K.cpu().numpy(),
        "rotation": batch.views.rotation.cpu().numpy(),
        "translation": batch.views.translation.cpu().numpy(),
        "identity": people.identity.numpy(),
        "expression": expression,
        "joints": people.joints.numpy(),
    }


def _write(out: Path, start: int, image: Tensor, batch: RenderBatch, parts: bool) -> None:
    for k, picture in enumerate(image.permute(0, 2, 3, 1).numpy()):
        write_png(out / f"{start + k:06d}.png", picture)
        if parts:
            write_png(out / f"{start + k:06d}_parts.png", batch.parts[k].cpu().numpy())


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) RGB or (H, W) uint8 atomically."""
    import cv2

    pixels = picture[..., ::-1] if picture.ndim == 3 else picture
    _, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())
