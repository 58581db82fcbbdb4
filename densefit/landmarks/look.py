"""One look at faces: crops in, landmarks and their uncertainty in pixels of the picture out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from densefit.landmarks.crop import FaceLayout, crop_around, cut_crop, to_picture
from densefit.landmarks.network import LandmarkNet, fold_batch_norm


@dataclass(frozen=True)
class Place:
    """Where a face was last: landmarks (703, 2) px, and the crops (4,) that it was seen in.

    picture: (H, W, 3) uint8, the picture before the next one; other faces in it are other people.
    """

    xy: np.ndarray
    roi: np.ndarray | None = None
    closeup: np.ndarray | None = None
    picture: np.ndarray | None = None


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

    own: (4,) the crop to cut around its landmarks; doubt: see `doubts`.
    """

    own: np.ndarray = field(kw_only=True)
    doubt: float = field(kw_only=True)


def doubts(xy: np.ndarray, sigma: np.ndarray, layout: FaceLayout) -> np.ndarray:
    """Sigma that the surer third of a face's landmarks stay below, over their box's side: (B,).

    xy: (B, 703, 2) px; sigma: (B, 703) px. Not the mean: half of a profile is hidden, and uncertain
    by right. Measured on studied faces: 0.010 to 0.018 on photos, 0.021 on a profile with
    sunglasses in small pictures; 0.0255 and more on what was proposed in panoramas without people.
    """
    box = layout.box.numpy()
    points = xy[:, box]
    sides = (points.max(1) - points.min(1)).max(1)
    return np.quantile(sigma[:, box], 0.35, axis=1) / np.maximum(sides, 1e-6)


class Looker:
    """A landmark network with the kind of crop it was trained on, ready to run on one device."""

    def __init__(
        self, network: LandmarkNet, layout: FaceLayout, device: torch.device | str = "cpu"
    ) -> None:
        self.layout, self.device = layout, torch.device(device)
        self.size = network.config.input_size
        folded = fold_batch_norm(network).to(self.device)
        self.network = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def look(
        self, pictures: list[np.ndarray], rois: np.ndarray, batch: int, mirrored: bool = False
    ) -> list[Look]:
        """Run the network on one crop of each picture (H, W, 3) uint8; rois (N, 4).

        batch: crops per call of the network. mirrored: show it the mirror images instead; the
        answer is about the pictures all the same.
        """
        looks: list[Look] = []
        for start in range(0, len(pictures), batch):
            part = slice(start, start + batch)
            crops = np.stack(
                [cut_crop(p, r, self.size) for p, r in zip(pictures[part], rois[part], strict=True)]
            )
            if mirrored:
                crops = np.ascontiguousarray(crops[:, :, ::-1])
            # (B, S, S, 3) seen as (B, 3, S, S) already has the channels-last layout.
            image = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2).float() / 255
            landmarks, presence = self.network(image)
            if mirrored:
                landmarks = landmarks[:, self.layout.mirror.to(self.device)]
                landmarks = landmarks * landmarks.new_tensor([-1, 1, 1])
            xy, sigma = to_picture(landmarks.double().cpu().numpy(), rois[part])
            xy, sigma = xy.astype(np.float32), sigma.astype(np.float32)
            chance = presence.sigmoid().double().cpu().numpy()
            seen = np.concatenate([rois[part], chance[:, None]], 1)
            own, doubt = crop_around(xy, self.layout), doubts(xy, sigma, self.layout)
            looks += [
                Look(xy[i], sigma[i], seen[i], own=own[i], doubt=float(doubt[i]))
                for i in range(len(xy))
            ]
        return looks


def combined(
    looks: Sequence[Sighting], roi: np.ndarray, confidence: float | None = None
) -> Sighting:
    """Several looks at one face as one.

    Each landmark becomes the mean weighted by 1 / sigma^2. Looks share most of their errors, so
    sigma does not shrink with their number; where they disagree, it grows.
    roi: (4,) of the result; confidence: of the result, by default the mean.
    """
    xy = np.stack([look.xy for look in looks]).astype(np.float64)
    variance = np.stack([look.sigma for look in looks]).astype(np.float64) ** 2
    weight = (1 / variance) / (1 / variance).sum(0)
    mean = (weight[..., None] * xy).sum(0)
    spread = (weight * ((xy - mean) ** 2).sum(-1) / 2).sum(0)
    sigma = np.sqrt((weight * variance).sum(0) + spread)
    if confidence is None:
        confidence = float(np.mean([look.roi[4] for look in looks]))
    return Sighting(mean.astype(np.float32), sigma.astype(np.float32), np.append(roi, confidence))
