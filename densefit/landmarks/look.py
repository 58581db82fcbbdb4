"""One look at faces: crops in, landmarks and their uncertainty in pixels of the picture out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from densefit.landmarks.crop import FaceLayout, crop_around, crop_offsets, cut_crop, to_picture
from densefit.landmarks.inference import ReadyNetwork
from densefit.landmarks.network import LandmarkNet
from densefit.side_by_side import SideBySide

T = TypeVar("T")
R = TypeVar("R")
_CPU_CROPS = {torch.float32: 4, torch.bfloat16: 8, torch.int8: 8}
"""Crops at once on a CPU: the maps of more do not stay in its caches."""
_SIDES = 2
"""Parts of a batch that are worked on at a time; more would be too small."""


@dataclass(frozen=True)
class Place:
    """Where a face was last: landmarks (703, 2) px, and the crops (4,) that it was seen in."""

    xy: np.ndarray
    roi: np.ndarray | None = None
    closeup: np.ndarray | None = None


@dataclass(frozen=True)
class Sighting:
    """A face in a picture.

    xy: (703, 2) float32 px; sigma: (703,) float32 px; roi: (5,) float64 centre x, y, side px, roll
    radians, confidence in 0..1: the crop that the landmarks were seen in; closeup: (4,) likewise
    of the close-up, if there was one.
    """

    xy: np.ndarray
    sigma: np.ndarray
    roi: np.ndarray
    closeup: np.ndarray | None = None

    @property
    def place(self) -> Place:
        """What following it into the next picture needs."""
        return Place(self.xy, self.roi[:4], self.closeup)


@dataclass(frozen=True)
class Look(Sighting):
    """What one look of a network says.

    own: (4,) the crop to cut around its landmarks; off: (3,) how far that is from the one they were
    seen in, see `crop_offsets`; doubt: see `doubts`.
    """

    own: np.ndarray = field(kw_only=True)
    off: np.ndarray = field(kw_only=True)
    doubt: float = field(kw_only=True)


def doubts(xy: np.ndarray, sigma: np.ndarray, layout: FaceLayout) -> np.ndarray:
    """Sigma that the surer third of a face's landmarks stay below, over their box's side: (B,).

    xy: (B, 703, 2) px; sigma: (B, 703) px. Not the mean: half of a profile is hidden, and uncertain
    by right. Measured on studied faces: at most 0.019 on photos, also where faces are 40 px large;
    0.030 and more on what was proposed in panoramas without people.
    """
    box = layout.box.numpy()
    points = xy[:, box]
    sides = (points.max(1) - points.min(1)).max(1)
    # np.quantile, which takes longer than anything else that is done with a look.
    place = 0.35 * (len(box) - 1)
    low, part = int(place), place % 1
    ordered = np.partition(sigma[:, box], (low, low + 1), axis=1)
    surer = (1 - part) * ordered[:, low] + part * ordered[:, low + 1]
    return surer / np.maximum(sides, 1e-6)


class Looker:
    """A landmark network with the kind of crop it was trained on, ready to run on one device."""

    def __init__(
        self,
        network: LandmarkNet,
        layout: FaceLayout,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """dtype: what the network runs in (see `densefit.precision`)."""
        self.layout, self.device = layout, torch.device(device)
        self.size = network.config.input_size
        ready = ReadyNetwork(network, dtype, self.device)
        self.network: nn.Module = ready
        self.dtype = ready.dtype  # not `dtype` where this CPU's int8 does not do
        self._aside: tuple[int, SideBySide] | None = None

    def look(
        self, pictures: list[np.ndarray], rois: np.ndarray, batch: int, mirrored: bool = False
    ) -> list[Look]:
        """Run the network on one crop of each picture (H, W, 3) uint8; rois (N, 4).

        batch: crops per call of the network, at most; a CPU is given fewer. mirrored: show it the
        mirror images instead; the answer is about the pictures all the same.
        """
        if not pictures:
            return []
        step = batch
        if self.device.type == "cpu":
            step = min(batch, _CPU_CROPS[self.dtype], -(-len(pictures) // _SIDES))
        parts = [slice(start, start + step) for start in range(0, len(pictures), step)]

        def looks(part: slice) -> list[Look]:
            return self._looks(pictures[part], rois[part], mirrored)

        return [look for some in self.side_by_side(looks, parts) for look in some]

    def around(self, xy: np.ndarray) -> np.ndarray:
        """The crops (N, 4) to cut around landmarks (N, 703, 2) px.

        By a thread of one: after a small reduction in several, torch's threads go on spinning for
        milliseconds, on the cores that the networks need.
        """
        return self.side_by_side(lambda part: crop_around(part, self.layout), [xy])[0]

    def _looks(self, pictures: list[np.ndarray], rois: np.ndarray, mirrored: bool) -> list[Look]:
        landmarks, presence = self._answers(pictures, rois, mirrored)
        xy, sigma = to_picture(landmarks, rois)
        xy, sigma = xy.astype(np.float32), sigma.astype(np.float32)
        seen = np.concatenate([rois, 1 / (1 + np.exp(-presence[:, None]))], 1)
        own, doubt = crop_around(xy, self.layout), doubts(xy, sigma, self.layout)
        off = crop_offsets(own, rois)
        return [
            Look(xy[i], sigma[i], seen[i], own=own[i], off=off[i], doubt=float(doubt[i]))
            for i in range(len(xy))
        ]

    def side_by_side(self, work: Callable[[T], R], parts: list[T]) -> list[R]:
        """The parts' results in order, by as many threads as torch has, two parts at a time.

        Parts are the same for every number of threads, and so are the results.
        """
        threads = torch.get_num_threads()
        if threads == 1 or self.device.type != "cpu":
            return [work(part) for part in parts]
        if self._aside is None or self._aside[0] != threads:
            import cv2

            # OpenCV's threads wait for work by spinning, on the cores that ours need.
            cv2.setNumThreads(1)
            self._aside = threads, SideBySide(_SIDES, threads // _SIDES)
        return self._aside[1].map(work, parts)

    def close(self) -> None:
        """End the threads, which would slow down what torch does next: where there are more of
        OpenMP's threads than cores, they hardly wait awake for one another any more."""
        if self._aside is not None:
            self._aside[1].close()
            self._aside = None

    @torch.inference_mode()
    def _answers(
        self, pictures: list[np.ndarray], rois: np.ndarray, mirrored: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks (B, 703, 3) in crop units and presence (B,), both float64."""
        crops = np.stack([cut_crop(p, r, self.size) for p, r in zip(pictures, rois, strict=True)])
        if mirrored:
            crops = np.ascontiguousarray(crops[:, :, ::-1])
        # (B, S, S, 3) seen as (B, 3, S, S) already has the channels-last layout.
        image = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2)
        landmarks, presence = self.network(image)
        if mirrored:
            landmarks = landmarks[:, self.layout.mirror.to(self.device)]
            landmarks = landmarks * landmarks.new_tensor([-1, 1, 1])
        return landmarks.double().cpu().numpy(), presence.double().cpu().numpy()


def merged(xy: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Several looks at the same faces as one: xy (..., 703, 2) and sigma (..., 703), both float32.

    xy: (L, ..., 703, 2) px; sigma: (L, ..., 703) px. Each landmark becomes the mean weighted by
    1 / sigma^2. Looks share most of their errors, so sigma does not shrink with their number; where
    they disagree, it grows.
    """
    variance = sigma.astype(np.float64) ** 2
    weight = 1 / variance
    weight /= weight.sum(0)
    mean = (weight[..., None] * xy).sum(0)
    spread = (weight * ((xy - mean) ** 2).sum(-1) / 2).sum(0)
    total = np.sqrt((weight * variance).sum(0) + spread)
    return mean.astype(np.float32), total.astype(np.float32)


def combined(looks: Sequence[Sighting], roi: np.ndarray) -> Sighting:
    """Several looks at one face as one (see `merged`), with their mean confidence.

    roi: (4,) of the result.
    """
    xy, sigma = merged(
        np.stack([look.xy for look in looks]), np.stack([look.sigma for look in looks])
    )
    confidence = float(np.mean([look.roi[4] for look in looks]))
    return Sighting(xy, sigma, np.append(roi, confidence))
