"""Training the head detector: scenes, a focal loss on centres, scores, export."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from densefit.landmarks.crop import FaceLayout
from densefit.landmarks.detector import (
    REFERENCE_SIZE,
    STRIDE,
    DetectorConfig,
    HeadDetector,
    decode,
)
from densefit.train.backgrounds import background_bank
from densefit.train.dataset import ShardFolder
from densefit.train.feed import Feed
from densefit.train.random import Draws
from densefit.train.scenes import SceneMaker, SceneOptions, Scenes

if TYPE_CHECKING:
    from densefit.head import HeadModel
    from densefit.train.loop import Answer


@dataclass(frozen=True)
class DetectorTaskOptions:
    """What to train on."""

    scenes: SceneOptions = field(default_factory=SceneOptions)
    network: DetectorConfig = field(default_factory=DetectorConfig)
    backgrounds: int = 1500
    """pictures in the bank of backgrounds"""
    score_samples: int = 192
    batch: int = 64


def target_maps(boxes: Tensor, there: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (B, M, 3) px -> heat (B, cells, cells), values (B, 3, cells, cells), sure (as heat).

    heat is 1 in the cell of a centre and falls off around it; values are x, y, log size of the face
    that rules the cell; `sure` marks the cells near enough to a centre to be asked for values.
    """
    count = boxes.shape[0]
    middle = (torch.arange(cells, device=boxes.device) + 0.5) * STRIDE - 0.5
    heat = torch.zeros(count, cells, cells, device=boxes.device)
    values = torch.zeros(count, 3, cells, cells, device=boxes.device)
    for slot in range(boxes.shape[1]):
        x, y, side = (boxes[:, slot, i].view(-1, 1, 1) for i in range(3))
        dx, dy = (x - middle) / STRIDE, (y - middle[:, None]) / STRIDE
        dx, dy = dx.expand_as(heat), dy.expand_as(heat)
        spread = (0.09 * side / STRIDE).clamp(min=0.45)
        near = torch.exp(-0.5 * (dx * dx + dy * dy) / spread**2)
        inside = (dx.abs() <= 0.5) & (dy.abs() <= 0.5)
        near = torch.where(inside, 1.0, near.clamp(max=0.99)) * there[:, slot, None, None]
        size = torch.log(side.clamp(min=1) / REFERENCE_SIZE).expand_as(heat)
        stronger = near > heat
        values = torch.where(stronger[:, None], torch.stack([dx, dy, size], 1), values)
        heat = torch.maximum(heat, near)
    return heat, values, heat > 0.5


def detector_loss(output: Tensor, scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Focal loss of the centres (Zhou et al., 2019, eq. 1) and absolute error of place and size."""
    heat, values, sure = target_maps(scenes.boxes, scenes.there, output.shape[-1])
    logit = output[:, 0]
    chance = logit.sigmoid()
    centre = heat >= 1
    hit = -functional.logsigmoid(logit) * (1 - chance) ** 2
    false = -functional.logsigmoid(-logit) * chance**2 * (1 - heat) ** 4
    faces = centre.sum().clamp(min=1)
    focal = torch.where(centre, hit, false).sum() / faces
    off = (output[:, 1:] - values).abs().sum(1)
    return focal, (off * sure).sum() / sure.sum().clamp(min=1)


class DetectorTask:
    """Everything the loop needs to train `HeadDetector` on shards of renders."""

    network: nn.Module

    def __init__(
        self,
        data: Path,
        head: HeadModel,
        draws: Draws,
        options: DetectorTaskOptions,
        backgrounds: Path | None = None,
        command: str = "",
    ) -> None:
        """data: folder of shards; backgrounds: folder of pictures without faces."""
        self.head, self.options, self.draws, self.command = head, options, draws, command
        self.store = ShardFolder(data, head.landmarks_version, device=draws.device)
        self.feed = Feed(self.store, draws, options.batch)
        rng = np.random.default_rng(draws.integer(0, 2**31))
        self.bank = background_bank(options.backgrounds, options.scenes.size, rng, backgrounds)
        self.layout = FaceLayout.of(head)
        self.scenes = SceneMaker(self.layout, self.bank, draws, options.scenes)
        self.network = HeadDetector(options.network)

    def loss(self, step: int, answer: Answer) -> tuple[Tensor, dict[str, Tensor]]:
        """Centres, places and sizes."""
        scenes = self.scenes(self.feed())
        (output,) = answer(scenes.image)
        focal, place = detector_loss(output, scenes)
        return focal + place, {"focal": focal.detach(), "place": place.detach()}

    def score(self, network: nn.Module) -> dict[str, float]:
        """Share of faces found, false alarms per picture at half score, error of the boxes."""
        maker = SceneMaker(
            self.layout, self.bank, Draws(12345, self.draws.device), self.options.scenes
        )
        found, faces, false, pictures = 0, 0, 0, 0
        errors: list[float] = []
        for start in range(0, self.options.score_samples, 64):
            rows = np.arange(start, start + 64) % self.store.held_out
            scenes = maker(self.store.batch(rows, held_out=True))
            output = network(scenes.image.contiguous(memory_format=torch.channels_last)).cpu()
            for i, one in enumerate(output):
                boxes = decode(one, 0.5)
                truth = scenes.boxes[i][scenes.there[i]].cpu()
                gap = (boxes[:, None, :2] - truth[None, :, :2]).norm(dim=-1) / truth[:, 2]
                near = gap < 0.35
                found += int(near.any(0).sum())
                faces += len(truth)
                false += int((~near.any(1)).sum())
                errors += gap[near].tolist()
                pictures += 1
        return {
            "found": found / max(faces, 1),
            "false_per_picture": false / pictures,
            "centre_error_of_side": float(np.mean(errors)) if errors else float("nan"),
        }

    def look_for_data(self) -> None:
        """Read shards that were rendered meanwhile."""
        self.store.rescan()

    def start_from(self, path: Path) -> str:
        """Take over a trained detector; says how much. InputError where the file is none."""
        from densefit.landmarks.weights import read_weights

        state, _ = read_weights(path, "detector")
        own = self.network.state_dict()
        chosen = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
        self.network.load_state_dict(chosen, strict=False)
        return f"{len(chosen)} of {len(own)} tensors from {path.name}"

    def export(self, network: nn.Module, path: Path, seen: int) -> None:
        """Write the weights."""
        from densefit.landmarks.weights import save_weights

        metadata = {
            "kind": "detector",
            "landmarks_version": self.head.landmarks_version,
            "renders": len(self.store),
            "pictures_seen": seen,
            "command": self.command,
            "input": "RGB picture, float 0..1; normalisation is part of the network",
        }
        save_weights(network, path, metadata)
