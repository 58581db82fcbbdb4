"""Finding faces in a whole picture: a small fully convolutional network over a pyramid of sizes.

The network looks at the picture at stride 8 and says, cell by cell, whether the centre of a face's
landmark box lies there, where exactly, and how large the box is ("Objects as Points", Zhou et al.,
2019). It only proposes: the landmark network, which sees each proposal up close, decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from densefit.landmarks.network import ResidualBlock, fold_batch_norm

STRIDE = 8
REFERENCE_SIZE = 40.0
"""box side, in pixels of the network's input, at which the size output is zero"""
_PIXEL_MEAN, _PIXEL_SCALE = 0.45, 0.25


@dataclass(frozen=True)
class DetectorConfig:
    """Shape of the network."""

    widths: tuple[int, ...] = (16, 32, 64, 96)
    """channels at strides 4, 8, 16 and 32"""
    blocks: tuple[int, ...] = (1, 1, 2, 1)
    merged: int = 32
    """channels of the map at stride 8 that all strides are merged into"""


class HeadDetector(nn.Module):
    """Picture -> map of face centres and sizes.

    forward(image): image (B, 3, H, W) float in [0, 1], RGB, H and W multiples of 32. Returns
    (B, 4, H / 8, W / 8) float32: logit of a face's centre in the cell; x, y of the centre from the
    middle of the cell in units of the stride; log of the box side over REFERENCE_SIZE.
    """

    def __init__(self, config: DetectorConfig = DetectorConfig()) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 6, 4, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        stages, laterals, channels = [], [], widths[0]
        for stage, (width, count) in enumerate(zip(widths, config.blocks, strict=True)):
            blocks = []
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(ResidualBlock(channels, width, stride))
                channels = width
            stages.append(nn.Sequential(*blocks))
            if stage > 0:
                laterals.append(nn.Conv2d(width, config.merged, 1))
        self.stages, self.laterals = nn.ModuleList(stages), nn.ModuleList(laterals)
        self.out = nn.Sequential(
            nn.Conv2d(config.merged, config.merged, 3, 1, 1, bias=False),
            nn.BatchNorm2d(config.merged),
            nn.ReLU(),
            nn.Conv2d(config.merged, 4, 1),
        )
        last = self.out[3]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.normal_(last.weight, 0.0, 0.01)
        with torch.no_grad():  # at first hardly any cell is a face (Lin et al., 2017)
            last.bias.copy_(torch.tensor([-4.0, 0.0, 0.0, 0.0]))

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem((image - _PIXEL_MEAN) / _PIXEL_SCALE)
        x = self.stages[0](x)
        maps = []
        for stage in self.stages[1:]:
            x = stage(x)
            maps.append(x)
        merged = self.laterals[-1](maps[-1])
        for lateral, level in zip(reversed(self.laterals[:-1]), reversed(maps[:-1]), strict=True):
            merged = functional.interpolate(merged, scale_factor=2.0, mode="nearest")
            merged = merged + lateral(level)
        return self.out(merged).float()


@dataclass(frozen=True)
class FaceBox:
    """A proposed face: centre and side of the square box of its landmarks, px; score in 0..1."""

    x: float
    y: float
    side: float
    score: float


@dataclass(frozen=True)
class DetectOptions:
    """How to look for faces."""

    long_sides: tuple[int, ...] = (128, 256, 512)
    """sizes that the picture's longer side is brought to, pixels (never enlarged)"""
    threshold: float = 0.25
    """least score of a proposal"""
    sizes: tuple[float, float] = (11.0, 140.0)
    """boxes taken at each size of the picture, pixels of the scaled picture"""
    overlap: float = 0.35
    """two boxes that overlap by more (area of intersection over smaller box) are one face"""
    alike: float = 1.8
    """... unless one is larger than the other by more than this factor: then the landmark network
    decides, because an eye may score higher than the face around it"""
    most: int = 10
    """proposals returned at most"""
    hidden: tuple[float, int] = (0.09, 25)
    """threshold and most, when a face is sought that may be half hidden"""


class FaceFinder:
    """Runs the detector over pictures; holds the network ready for inference."""

    def __init__(
        self,
        network: HeadDetector,
        device: torch.device | str = "cpu",
        options: DetectOptions = DetectOptions(),
    ) -> None:
        self.device, self.options = torch.device(device), options
        folded = fold_batch_norm(network)
        self.network = folded.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, picture: np.ndarray, hidden: bool = False) -> list[FaceBox]:
        """Faces of a picture (H, W, 3) uint8 RGB, the best score first.

        hidden: propose far more, for who can tell faces from other things.
        """
        options = self.options
        threshold, most = options.hidden if hidden else (options.threshold, options.most)
        found: list[FaceBox] = []
        longest = max(picture.shape[:2])
        sides = [s for s in self.options.long_sides if s <= longest] or [longest]
        for side in sides:
            found += self._at_scale(picture, side / longest, threshold)
        return _distinct(found, options)[:most]

    def _at_scale(self, picture: np.ndarray, scale: float, threshold: float) -> list[FaceBox]:
        import cv2

        height, width = picture.shape[:2]
        new = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(picture, new, interpolation=cv2.INTER_AREA)
        below, beside = -new[1] % 32, -new[0] % 32
        small = cv2.copyMakeBorder(small, 0, below, 0, beside, cv2.BORDER_REPLICATE)
        image = torch.from_numpy(small).to(self.device).permute(2, 0, 1)[None].float() / 255
        output = self.network(image.contiguous(memory_format=torch.channels_last))[0].cpu()
        boxes = decode(output, threshold)
        low, high = self.options.sizes
        boxes = boxes[(boxes[:, 2] >= low) & (boxes[:, 2] <= high)]
        sx, sy = width / new[0], height / new[1]
        return [
            FaceBox((x + 0.5) * sx - 0.5, (y + 0.5) * sy - 0.5, side * (sx * sy) ** 0.5, score)
            for x, y, side, score in boxes.tolist()
        ]


def decode(output: Tensor, threshold: float) -> Tensor:
    """Local maxima of one picture's output (4, h, w) -> (N, 4): x, y, side in px, score."""
    heat = output[0].sigmoid()
    peak = functional.max_pool2d(heat[None, None], 3, 1, 1)[0, 0]
    rows, columns = torch.nonzero((heat >= peak) & (heat > threshold), as_tuple=True)
    values = output[:, rows, columns]
    # Cell i covers pixels 8 i - 0.5 .. 8 i + 7.5; its middle is at 8 i + 3.5.
    x = (columns + 0.5 + values[1]) * STRIDE - 0.5
    y = (rows + 0.5 + values[2]) * STRIDE - 0.5
    side = REFERENCE_SIZE * values[3].clamp(-3, 3).exp()
    return torch.stack([x, y, side, heat[rows, columns]], 1)


def _distinct(boxes: list[FaceBox], options: DetectOptions) -> list[FaceBox]:
    """Drop boxes that overlap a better one."""
    kept: list[FaceBox] = []
    for box in sorted(boxes, key=lambda b: -b.score):
        if not any(_same_face(box, other, options) for other in kept):
            kept.append(box)
    return kept


def _same_face(a: FaceBox, b: FaceBox, options: DetectOptions) -> bool:
    alike = max(a.side, b.side) < options.alike * min(a.side, b.side)
    return alike and _shared(a, b) > options.overlap


def _shared(a: FaceBox, b: FaceBox) -> float:
    """Area of the intersection over that of the smaller box."""
    small = min(a.side, b.side)
    reach = (a.side + b.side) / 2
    across = min(small, reach - abs(a.x - b.x))
    down = min(small, reach - abs(a.y - b.y))
    return max(0.0, across) * max(0.0, down) / (small * small)


def load_detector(path: Path | None = None) -> HeadDetector:
    """The trained detector in eval mode (path: another file of weights than the one that ships)."""
    from densefit.landmarks.weights import DETECTOR_WEIGHTS, read_weights

    state, metadata = read_weights(path or DETECTOR_WEIGHTS, "detector")
    config: dict[str, Any] = metadata["config"]
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    network = HeadDetector(DetectorConfig(**config))
    network.load_state_dict(state, strict=False)
    return network.eval()
