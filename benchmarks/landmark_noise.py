"""How the errors of one picture's landmarks go together, measured on held-out renders.

    python benchmarks/landmark_noise.py SHARDS [--count 600] [--weights FOLDER] [--write FILE.npz]

SHARDS is a folder of renders that the network was trained on; the last images of every shard were
never trained on. Printed is by how much the variance of pose, expression and identity of a fit
exceeds what independent errors of the same size would give (`FitOptions.correlation` is the first
of them over all parameters of a frame); --write stores the covariance that the fit's deviations
rest on (densefit/fit/noise.npz).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from densefit.files import write_npz
from densefit.fit.landmark_model import landmark_model
from densefit.head import load_head
from densefit.head.model import HeadModel
from densefit.landmarks.crop import FaceLayout
from densefit.landmarks.network import load_network
from densefit.landmarks.weights import SHIPPED, WEIGHTS_FOLDER
from densefit.train.augment import Augmenter
from densefit.train.backgrounds import background_bank
from densefit.train.dataset import ShardFolder
from densefit.train.landmark_task import LandmarkTaskOptions
from densefit.train.random import Draws

RANK = 48
CLIP = 6.0
"""Standard deviations: what is farther off the robust loss leaves out of the fit too."""


@torch.no_grad()
def standardised_errors(shards: Path, weights: Path, count: int, head: HeadModel) -> np.ndarray:
    """(N, 703, 2): errors over sigma of the landmarks on held-out renders with a face."""
    network = load_network(weights / SHIPPED["landmarks"].name, head.landmarks_version, "landmarks")
    options = LandmarkTaskOptions()
    store = ShardFolder(shards, head.landmarks_version, least_size=options.least_picture)
    bank = background_bank(300, network.config.input_size, np.random.default_rng(99), None)
    augmenter = Augmenter(FaceLayout.of(head), bank, Draws(2024), options.augment)
    parts = []
    for start in range(0, count, 64):
        rows = np.arange(start, min(start + 64, count)) % store.held_out
        crops = augmenter(store.batch(rows, held_out=True))
        output, _ = network(crops.image.contiguous(memory_format=torch.channels_last))
        face = crops.presence > 0.5
        error = (output[..., :2] - crops.target) / output[..., 2:].exp()
        parts.append(error[face].numpy())
    return np.clip(np.concatenate(parts), -CLIP, CLIP)


def low_rank(errors: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of errors (N, 703, 2) as factor (703, 2, r) and rest (703, 2) of the variance."""
    flat = errors.reshape(len(errors), -1)
    _, values, rows = np.linalg.svd(flat / np.sqrt(len(flat)), full_matrices=False)
    factor = (values[:rank, None] * rows[:rank]).T
    rest = np.maximum(np.square(flat).mean(axis=0) - np.square(factor).sum(axis=1), 0.05)
    return factor.reshape(*errors.shape[1:], rank), rest.reshape(errors.shape[1:])


def inflation(factor: np.ndarray, rest: np.ndarray, head: HeadModel) -> dict[str, float]:
    """Mean factor on the variance of a frame's parameters, against independent errors."""
    model = landmark_model(head, torch.float64)
    points = model.template.numpy().T
    shapes = [model.expression[model.free].reshape(-1, 3, len(points)).numpy().swapaxes(1, 2)]
    turns = np.stack([np.cross(axis, points) for axis in np.eye(3)])
    shifts = np.stack([np.tile(axis, (len(points), 1)) for axis in np.eye(3)[:2]])
    grow = points[None] * [1, 1, 0]
    groups = {
        "pose": np.concatenate([turns, shifts, grow]),
        "expression": shapes[0],
        "identity": model.identity.reshape(-1, 3, len(points)).numpy().swapaxes(1, 2),
    }
    groups["frame"] = np.concatenate([groups["pose"], groups["expression"]])
    variance = np.square(factor).sum(axis=2) + rest
    out = {}
    for name, rows in groups.items():
        columns = (rows[:, :, :2] * [1, -1]).reshape(len(rows), -1)
        u, values, vt = np.linalg.svd(columns.T, full_matrices=False)
        basis = u[:, values > 0.02 * values[0]]
        spread = np.square(basis.T @ factor.reshape(len(basis), -1)).sum(axis=1)
        spread = spread + np.square(basis).T @ rest.reshape(-1)
        alone = np.square(basis).T @ variance.reshape(-1)
        out[name] = float(np.mean(spread / alone))
    return out


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shards", type=Path)
    parser.add_argument("--weights", type=Path, default=WEIGHTS_FOLDER, help="folder")
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args()
    head = load_head()
    errors = standardised_errors(chosen.shards, chosen.weights, chosen.count, head)
    factor, rest = low_rank(errors, RANK)
    share = np.square(factor).sum() / (np.square(factor).sum() + rest.sum())
    spread = np.square(errors).mean()
    print(f"{len(errors)} faces, variance of error / sigma {spread:.2f}")
    print(f"{100 * share:.0f} % of it in {RANK} directions")
    for name, value in inflation(factor, rest, head).items():
        print(f"{name:12s} variance {value:6.1f} times that of independent errors")
    if chosen.write:
        write_npz(
            chosen.write, factor=(factor / np.sqrt(spread)).astype(np.float16),
            rest=(rest / spread).astype(np.float16),
        )  # fmt: skip


if __name__ == "__main__":
    main()
