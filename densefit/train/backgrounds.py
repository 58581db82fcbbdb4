"""What stands behind and in front of synthetic faces: procedural pictures and real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from densefit.errors import InputError
from densefit.synth.pack import PICTURE_SUFFIXES, linear_pictures


def background_bank(
    count: int, size: int, rng: np.random.Generator, folder: Path | None = None
) -> Tensor:
    """A bank of backgrounds, (count, 3, size, size) uint8.

    folder: pictures without faces, or a file of `synth.pack` (high dynamic range ones are exposed
    at random); a bit more than half of the bank is cut from them, the rest is procedural.
    """
    pictures = read_pictures(folder) if folder is not None else []
    bank = np.empty((count, 3, size, size), np.uint8)
    for i in range(count):
        if pictures and rng.random() < 0.55:
            picture = _random_cut(pictures[rng.integers(len(pictures))], size, rng)
        else:
            picture = _procedural(size, rng)
        bank[i] = np.clip(picture, 0, 255).transpose(2, 0, 1)
    return torch.from_numpy(bank)


def read_pictures(folder: Path) -> list[np.ndarray]:
    """All pictures of a folder or a packed file, each (H, W, 3) float32 linear light, RGB.

    Raises:
        InputError: there is none, or OpenCV is missing and they are not packed.
    """
    found = (linear for _, linear in linear_pictures(folder, PICTURE_SUFFIXES, deep=True))
    pictures = [picture for picture in found if picture is not None]
    if not pictures:
        raise InputError(f"{folder}: no pictures to use as backgrounds")
    return pictures


def expose(linear: np.ndarray, brightness: float) -> np.ndarray:
    """Linear light -> display values 0..255, the median pixel at `brightness` (0..1, linear)."""
    scale = brightness / max(float(np.median(linear)), 1e-6)
    return np.clip(linear * scale, 0, 1) ** (1 / 2.2) * 255.0


def _random_cut(linear: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random square of a picture at a random scale and exposure."""
    height, width = linear.shape[:2]
    largest = min(height, width)
    side = int(np.clip(2 ** rng.uniform(5.5, np.log2(largest) + 0.01), 48, largest))
    y = rng.integers(0, height - side + 1)
    x = rng.integers(0, width - side + 1)
    cut = expose(linear[y : y + side, x : x + side], rng.uniform(0.08, 0.4))
    cut = resize(cut, size)
    return cut[:, ::-1] if rng.random() < 0.5 else cut


def resize(picture: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """(H, W, C) float -> (height, width, C) float32, antialiased."""
    tensor = torch.from_numpy(np.ascontiguousarray(picture, np.float32)).permute(2, 0, 1)[None]
    out = functional.interpolate(
        tensor, (height, width or height), mode="bilinear", antialias=True, align_corners=False
    )
    return out[0].permute(1, 2, 0).numpy()


def _procedural(size: int, rng: np.random.Generator) -> np.ndarray:
    """One of several kinds of made-up background, (size, size, 3), about 0..255."""
    kind = rng.integers(6)
    if kind == 0:
        picture = resize(rng.uniform(0, 255, (2, 2, 3)) * rng.uniform(0.2, 1), size)
        picture = picture + rng.uniform(0, 120)
    elif kind in (1, 2):
        picture = _cloud(size, rng)
    elif kind == 3:
        picture = _blocks(size, rng)
    elif kind == 4:
        picture = _stripes(size, rng)
    else:
        picture = np.broadcast_to(rng.uniform(0, 255, 3), (size, size, 3))
    if rng.random() < 0.35:
        small = max(4, int(size * rng.uniform(0.06, 0.5)))
        picture = resize(resize(picture, small), size)
    return picture + rng.normal(0, rng.uniform(0, 5), (size, size, 3))


def _cloud(size: int, rng: np.random.Generator) -> np.ndarray:
    """Noise summed over octaves, coloured or grey."""
    channels = 3 if rng.random() < 0.6 else 1
    fall = rng.uniform(0.5, 1.1)
    picture = np.zeros((size, size, channels))
    for octave in range(1, 7):
        noise = rng.normal(0, 60 * fall**octave, (2**octave, 2**octave, channels))
        picture = picture + resize(noise, size)
    return picture + rng.uniform(30, 220, 3)


def _blocks(size: int, rng: np.random.Generator) -> np.ndarray:
    """Rectangles and discs of flat colour: furniture, windows, posters, blobs."""
    picture = np.broadcast_to(rng.uniform(0, 255, 3), (size, size, 3)).copy()
    y, x = np.mgrid[:size, :size]
    for _ in range(rng.integers(3, 25)):
        cx, cy = rng.uniform(0, size, 2)
        w, h = rng.uniform(0.02, 0.4, 2) * size
        if rng.random() < 0.6:
            inside = (abs(x - cx) < w) & (abs(y - cy) < h)
        else:
            inside = ((x - cx) / w) ** 2 + ((y - cy) / h) ** 2 < 1
        picture[inside] = rng.uniform(0, 255, 3) + rng.normal(0, 6, 3)
    return picture


def _stripes(size: int, rng: np.random.Generator) -> np.ndarray:
    """Stripes, lattices and bricks."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 60)
    y, x = np.mgrid[:size, :size]
    along = x * np.cos(angle) + y * np.sin(angle)
    wave = np.sin(along * 2 * np.pi / period)
    if rng.random() < 0.4:
        across = -x * np.sin(angle) + y * np.cos(angle)
        wave = np.minimum(wave, np.sin(across * 2 * np.pi / (period * rng.uniform(0.5, 2))))
    wave = np.clip(wave * rng.uniform(1, 8), -1, 1)[..., None]
    return rng.uniform(40, 215, 3) + wave * rng.uniform(-90, 90, 3)
