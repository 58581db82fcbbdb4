"""Landmarks put right by what the picture shows at each of them.

The last map of the network has a place for every 32 pixels: good for where a face lies and how it
looks, poor for where exactly an edge runs. So its answer is taken as a first guess; finer maps,
told by coarser ones what they show, are read at each guessed landmark, and say how far off it is
(a step of descent with learnt directions: Xiong and De la Torre, "Supervised descent method",
CVPR 2013, on learnt features).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

FINE, MIDDLE = 32, 64
"""Channels of the maps at stride 4 and 8 that are read."""
HIDDEN = 64


class LocalRefinement(nn.Module):
    """What to add to landmarks and their log sigma.

    `maps` makes the maps to read from those of the body; forward(fine, middle, answer, features)
    reads them: at strides 4 and 8, (B, FINE, ..) and (B, MIDDLE, ..); answer (B, 703, 3), the first
    guess, see `LandmarkNet`; features (B, F), what it was made from. Returns (B, 703, 3).
    """

    def __init__(self, widths: tuple[int, ...], features: int, landmarks: int) -> None:
        """widths: channels of the body's maps at strides 4, 8 and 16."""
        super().__init__()
        self.coarse = _beside(widths[2], MIDDLE)
        self.middle = _beside(widths[1], MIDDLE)
        self.middle_join = _joined(MIDDLE)
        self.down = _beside(MIDDLE, FINE)
        self.fine = _beside(widths[0], FINE)
        self.fine_join = _joined(FINE)
        self.seen = nn.Linear(MIDDLE + FINE, HIDDEN)
        self.context = nn.Linear(features, HIDDEN, bias=False)
        self.own = nn.Parameter(0.3 * torch.randn(landmarks, HIDDEN))
        # Without influence at first: the network answers as it did without refinement.
        self.weight = nn.Parameter(torch.zeros(landmarks, HIDDEN, 3))
        self.bias = nn.Parameter(torch.zeros(landmarks, 3))

    @property
    def levels(self) -> tuple[Level, Level]:
        """The layers of the maps at strides 8 and 4, in this order."""
        return (
            Level(self.coarse, self.middle, self.middle_join),
            Level(self.down, self.fine, self.fine_join),
        )

    def maps(self, stages: list[Tensor]) -> list[Tensor]:
        """The maps at strides 4 and 8 to read, from the body's at strides 4, 8 and 16."""
        fine, middle, coarse = stages
        to_middle, to_fine = self.levels
        middle = to_middle(coarse, middle)
        return [to_fine(middle, fine), middle]

    def forward(self, fine: Tensor, middle: Tensor, answer: Tensor, features: Tensor) -> Tensor:
        with torch.autocast(answer.device.type, enabled=False):
            # Landmark by landmark, then crop by crop: (703, B, ..), as the last product wants it.
            points = answer[..., :2].detach().transpose(0, 1)
            read = torch.cat([read_at(middle.float(), points), read_at(fine.float(), points)], -1)
            base = self.own[:, None] + self.context(features.float()) + self.seen.bias
            hidden = torch.addmm(base.flatten(0, 1), read.flatten(0, 1), self.seen.weight.T)
            hidden = functional.relu(hidden, inplace=True).view(base.shape)
            return torch.baddbmm(self.bias[:, None], hidden, self.weight).transpose(0, 1)


@dataclass(frozen=True)
class Level:
    """A map of the body told by a coarser one what it shows (Lin et al., "Feature pyramid
    networks", CVPR 2017)."""

    above: nn.Sequential
    """of the coarser map, half as large"""
    beside: nn.Sequential
    """of the body's map; added to what is above"""
    join: nn.Sequential

    def __call__(self, coarser: Tensor, x: Tensor) -> Tensor:
        return self.join(functional.relu(self.beside(x) + doubled(self.above(coarser))))


def _beside(channels_in: int, channels_out: int) -> nn.Sequential:
    layer = nn.Conv2d(channels_in, channels_out, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out))


def _joined(channels: int) -> nn.Sequential:
    layer = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def doubled(x: Tensor) -> Tensor:
    """Every place of a map (B, C, H, W) as four."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


@functools.cache
def _size_of(width: int, height: int, device: torch.device) -> Tensor:
    """(2,) float32, once a device: to copy something to a GPU is to wait for it."""
    with torch.inference_mode(False):  # good for training, too, whoever asks first
        return torch.tensor([width, height], dtype=torch.float32, device=device)


def read_at(values: Tensor, points: Tensor) -> Tensor:
    """A map (B, C, H, W) at points (N, B, 2) in crop units, bilinear: (N, B, C).

    Points outside read the border. Crop units are as if every place of the map were the middle of
    its part of the crop; that maps are shifted by less than a place is for layers to learn.
    """
    crops, channels, height, width = values.shape
    size = _size_of(width, height, points.device)
    at = ((points + 1) / 2 * size - 0.5).clamp_min(0).minimum(size - 1)
    low = at.floor().minimum(size - 2).clamp_min(0)
    u, v = (at - low).unbind(-1)
    x, y = low.long().unbind(-1)
    corner = (torch.arange(crops, device=points.device) * height + y) * width + x
    right, below = min(width - 1, 1), width * min(height - 1, 1)
    rows = torch.stack([corner, corner + right, corner + below, corner + below + right], -1)
    shares = torch.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v], -1)
    table = values.permute(0, 2, 3, 1).reshape(-1, channels)  # no copy of a channels-last map
    read = functional.embedding_bag(
        rows.view(-1, 4), table, per_sample_weights=shares.view(-1, 4), mode="sum"
    )
    return read.view(*points.shape[:2], channels)
