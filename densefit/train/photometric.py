"""What a camera and a codec do to a picture: colour, blur, low resolution, noise, compression.

All functions take and return images (B, 3, S, S) float32, display values about 0..1, on any device.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional

from densefit.train.random import Draws

_LUMA = (0.299, 0.587, 0.114)
_TO_YCC = (_LUMA, (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


@functools.cache
def _constant(values: tuple[object, ...], device: torch.device) -> Tensor:
    """As a tensor, once a device: to copy one to a GPU is to wait for that."""
    return torch.tensor(values, device=device)


def random_colour(image: Tensor, draws: Draws) -> Tensor:
    """Exposure, contrast, white balance, saturation (grey pictures too) and a tone curve."""
    count = len(image)
    device = image.device
    luma = _constant(_LUMA, device)
    saturation = draws.uniform(0.2, 1.35, count)
    saturation = torch.where(draws.chance(0.12, count), 0.0, saturation)[:, None, None]
    keep = torch.eye(3, device=device) * saturation + luma * (1 - saturation)
    balance = 1 + draws.normal(0.08, count, 3).clamp(-0.25, 0.25)
    gain = draws.log_uniform(0.65, 1.6, count)
    contrast = draws.log_uniform(0.65, 1.35, count)
    # White balance before saturation: a grey picture stays grey.
    matrix = keep @ torch.diag_embed(balance * (gain * contrast)[:, None])
    level = (image.mean((1, 2, 3)) * gain) * (1 - contrast) + draws.normal(0.06, count) + 0.02
    out = torch.baddbmm(level[:, None, None], matrix, image.flatten(2)).view_as(image)
    out = out.clamp_(0, 1)
    # x + a x (1 - x): a cheap stand-in for a gamma curve, monotonic for |a| < 1.
    bend = draws.uniform(-0.5, 0.7, count, 1, 1, 1)
    return out.addcmul_(out * (1 - out), bend)


def random_light(image: Tensor, draws: Draws) -> Tensor:
    """Light that changes over the picture: smooth random gains of every part, slightly coloured."""
    count, channels, size, _ = image.shape
    grey = draws.normal(0.30, count, 1, 3, 3).clamp(-0.7, 0.7)
    colour = draws.normal(0.06, count, channels, 3, 3)
    # Interpolation is linear and separable: two small products, a tenth of interpolate's time.
    bend = _cubic_matrix(3, size, image.device)
    return image * (bend @ (grey + colour) @ bend.mT).exp()


@functools.cache
def _cubic_matrix(knots: int, size: int, device: torch.device) -> Tensor:
    """(size, knots): values at `size` places from those at knots, by cubic convolution."""
    unit = torch.eye(knots)[None, :, :, None].expand(-1, -1, -1, knots)
    places = functional.interpolate(unit, (size, knots), mode="bicubic", align_corners=True)
    return places[0, :, :, 0].T.contiguous().to(device)


def random_resolution(image: Tensor, draws: Draws, coarsest: float = 34.0) -> Tensor:
    """Blur (defocus, motion along an axis) and low resolution, down to `coarsest` pixels a side.

    Both are linear and separable: each sample gets one matrix for rows and one for columns, so a
    batch costs two batched products. The picture's border is repeated outside; zeros there would
    leave a dark frame that a network learns to read.
    """
    count, _, size, _ = image.shape
    blur = draws.log_uniform(0.25, 75.0 / coarsest, count)
    stretch = torch.where(draws.chance(0.3, count), draws.log_uniform(0.3, 3.0, count), 1.0)
    pixels = draws.log_uniform(coarsest, 2.0 * size, count)
    shrink = (size / pixels).clamp(min=1.0)
    rows = _shrink_matrix(size, shrink) @ _blur_matrix(size, blur * stretch.sqrt())
    columns = _shrink_matrix(size, shrink) @ _blur_matrix(size, blur / stretch.sqrt())
    across = image.reshape(count, 3 * size, size) @ columns.mT
    # Rows second: with rows, channels and columns as (S, 3 S) it is one product for each sample.
    across = across.view(count, 3, size, size).transpose(1, 2).reshape(count, size, 3 * size)
    return (rows @ across).view(count, size, 3, size).transpose(1, 2)


def _blur_matrix(size: int, sigma: Tensor) -> Tensor:
    """Gaussian blur as matrices (B, size, size), the border repeated outside."""
    margin = 12
    place = torch.arange(size, device=sigma.device, dtype=torch.float32)
    source = torch.arange(-margin, size + margin, device=sigma.device, dtype=torch.float32)
    distance = (place[:, None] - source) ** 2
    # Clamped, because the far tail is made of denormal numbers, with which CPUs are very slow.
    weight = torch.exp((-0.5 * distance / sigma[:, None, None] ** 2).clamp(min=-40))
    weight = weight / weight.sum(-1, keepdim=True)
    matrix = weight[..., margin:-margin].clone()
    matrix[..., 0] += weight[..., :margin].sum(-1)
    matrix[..., -1] += weight[..., -margin:].sum(-1)
    return matrix


def _shrink_matrix(size: int, shrink: Tensor) -> Tensor:
    """Average down by `shrink` (B,) >= 1 and interpolate up again, as matrices (B, size, size)."""
    edge = torch.arange(size, device=shrink.device, dtype=torch.float32)
    factor = shrink[:, None, None]
    cells = (size / factor).ceil()
    start = edge[:, None] * factor  # cell j covers [j * shrink, (j + 1) * shrink)
    overlap = torch.minimum(edge + 1, start + factor) - torch.maximum(edge, start)
    down = overlap.clamp(min=0)
    down = down / down.sum(-1, keepdim=True).clamp(min=1e-6)
    position = (edge[:, None] + 0.5) / factor - 0.5
    position = torch.minimum(position.clamp(min=0), cells - 1)
    up = (1 - (position - edge).abs()).clamp(min=0)
    return up @ down


def noise_bank(size: int, draws: Draws) -> Tensor:
    """Unit noise to cut from, (8, 3, size + 64, size + 64): drawing it anew each time is slow."""
    return draws.normal(1.0, 8, 3, size + 64, size + 64)


def add_noise(image: Tensor, bank: Tensor, draws: Draws) -> Tensor:
    """Sensor noise of a random strength, in colour or in brightness only."""
    count, _, size, _ = image.shape
    sheet = draws.host.integers(0, len(bank), count).tolist()
    corner = draws.host.integers(0, 64, count, 2).tolist()
    noise = torch.stack(
        [bank[s, :, y : y + size, x : x + size] for s, (y, x) in zip(sheet, corner, strict=True)]
    )
    strength = draws.log_uniform(0.004, 0.07, count, 1, 1, 1)
    return image.addcmul(noise, strength)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split())


# The example tables of ITU-T T.81, annex K.
_LUMA_TABLE = _numbers(
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 "
    "62 18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 "
    "98 112 100 103 99"
)
_CHROMA_TABLE = _numbers(
    "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 "
    + "99 " * 33
)


def compress(image: Tensor, draws: Draws) -> Tensor:
    """What JPEG at a quality of 12 to 85 leaves of the image: 8x8 cosine blocks, coarse chroma."""
    count, _, size, _ = image.shape
    quality = draws.uniform(12, 85, count)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50).view(count, 1, 1, 1)
    to_ycc = _constant(_TO_YCC, image.device)
    ycc = (to_ycc @ image.flatten(2)).view_as(image)
    luma = _quantise(ycc[:, :1], _LUMA_TABLE, scale)
    chroma = functional.avg_pool2d(ycc[:, 1:], 2).reshape(-1, 1, size // 2, size // 2)
    chroma = _quantise(chroma, _CHROMA_TABLE, scale.repeat_interleave(2, 0))
    chroma = functional.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    ycc = torch.cat([luma, chroma.view(count, 2, size, size)], 1)
    return (torch.linalg.inv_ex(to_ycc).inverse @ ycc.flatten(2)).view_as(image)


def _quantise(plane: Tensor, table: tuple[float, ...], scale: Tensor) -> Tensor:
    """Round the 8x8 cosine coefficients of planes (B, 1, h, w); scale (B, 1, 1, 1) of the table."""
    steps = _constant(table, plane.device) / 255
    steps = (steps * scale.view(-1, 1, 1)).clamp(min=1 / 255)
    n = torch.arange(8, device=plane.device, dtype=torch.float32)
    basis = torch.cos((2 * n + 1) * n[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    transform = torch.kron(basis, basis)  # one row for each of the 64 cosines
    count, _, height, width = plane.shape
    blocks = plane.view(count, height // 8, 8, width // 8, 8).transpose(2, 3).reshape(count, -1, 64)
    coefficients = blocks @ transform.T
    coefficients = torch.round(coefficients / steps) * steps
    blocks = (coefficients @ transform).view(count, height // 8, width // 8, 8, 8)
    return blocks.transpose(2, 3).reshape(count, 1, height, width)
