"""Scores on labelled crops: error by region, sigma of hidden landmarks, calibration of sigma."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from densefit.train.augment import Augmenter
from densefit.train.dataset import ShardFolder

# Median of the Rayleigh distribution with unit scale: |error| / sigma of a circular Gaussian.
RAYLEIGH_MEDIAN = float(np.sqrt(2 * np.log(2)))


@dataclass(frozen=True)
class Predictions:
    """Network output beside the truth, for N crops that show a face (crop units).

    error: (N, 703) distance; sigma: (N, 703); visible: (N, 703) bool; eyes: (N,) true distance
    between the outer eye corners; presence: (M,) logits of all crops, with_face: (M,) bool.
    """

    error: Tensor
    sigma: Tensor
    visible: Tensor
    eyes: Tensor
    presence: Tensor
    with_face: Tensor


@torch.no_grad()
def predict_held_out(
    network: nn.Module,
    store: ShardFolder,
    augmenter: Augmenter,
    count: int,
    eye_corners: tuple[int, int],
    batch: int = 64,
) -> Predictions:
    """Run a network (eval mode) on augmented crops of `count` held-out renders, each drawn anew."""
    parts: list[tuple[Tensor, ...]] = []
    for start in range(0, count, batch):
        rows = np.arange(start, min(start + batch, count)) % store.held_out
        crops = augmenter(store.batch(rows, held_out=True))
        image = crops.image.contiguous(memory_format=torch.channels_last)
        output, presence = network(image)
        error = (output[..., :2] - crops.target).norm(dim=-1)
        eyes = crops.target[:, eye_corners[0]] - crops.target[:, eye_corners[1]]
        face = crops.presence > 0.5
        sigma = output[..., 2].exp()
        rows_of_faces = (error[face], sigma[face], crops.visible[face], eyes.norm(dim=-1)[face])
        parts.append((*rows_of_faces, presence, face))
    return Predictions(*(torch.cat(p).cpu() for p in zip(*parts, strict=True)))


def scores(predictions: Predictions, points: np.ndarray, size: int) -> dict[str, float]:
    """Figures for a log line or a model card.

    points: indices of the iBUG points that count; size: side of the crops in pixels.
    """
    p = predictions
    ratio = p.error / p.sigma
    named = {
        "error_px": float(p.error.mean()) * size / 2,
        "visible_px": float(p.error[p.visible].mean()) * size / 2,
        # Mean over faces of the mean error of iBUG's points, as a share of the eye distance.
        # Profiles have next to none, so it is held to at least a quarter of a crop.
        "nme_percent": 100 * float((p.error[:, points].mean(1) / p.eyes.clamp(min=0.25)).mean()),
        "within_1_sigma": float((ratio < 1).float().mean()),
        "within_2_sigma": float((ratio < 2).float().mean()),
    }
    if (~p.visible).any():
        hidden, visible = p.sigma[~p.visible].median(), p.sigma[p.visible].median()
        named["hidden_sigma_ratio"] = float(hidden / visible)
    if not p.with_face.all():
        right = (p.presence > 0) == p.with_face
        named["presence_right"] = float(right.float().mean())
    return named


def error_by_region(
    predictions: Predictions, region: np.ndarray, names: tuple[str, ...], size: int
) -> dict[str, tuple[float, float]]:
    """Mean error of the visible landmarks and mean sigma by region, pixels of the crop."""
    table = {}
    for index, name in enumerate(names):
        columns = np.flatnonzero(region == index)
        seen = predictions.visible[:, columns]
        if seen.any():
            error = predictions.error[:, columns][seen].mean() * size / 2
            sigma = predictions.sigma[:, columns][seen].mean() * size / 2
            table[name] = (float(error), float(sigma))
    return table


def sigma_temperature(predictions: Predictions) -> Tensor:
    """Logarithm (703,) of the factor that calibrates each landmark's sigma.

    From the median of |error| / sigma, which a few lost crops cannot bend.
    """
    ratio = (predictions.error / predictions.sigma).median(0).values
    return torch.log((ratio / RAYLEIGH_MEDIAN).clamp(0.2, 5.0))
