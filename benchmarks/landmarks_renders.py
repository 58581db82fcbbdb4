"""Scores of the landmark networks on held-out renders: error by region, sigma, calibration.

    python benchmarks/landmarks_renders.py SHARDS [--count 600] [--weights FOLDER]
        [--backgrounds FOLDER] [--plot FILE.png] [--json FILE]

SHARDS is the folder that the networks were trained on; the last images of every shard were never
trained on. Each is augmented as in training (the same every time). Pixels are those of the crop.
After the two networks' own figures come those of `densefit predict --quality high` on such renders
as photographs: before a background, whole and not degraded; errors there are per cent of the
distance between the outer eye corners (held to at least a fifth of the picture).
The plot (needs matplotlib) shows how often errors are within a multiple of sigma.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from densefit.head import load_head
from densefit.head.model import HeadModel
from densefit.landmarks.crop import FaceLayout, in_closeup
from densefit.landmarks.network import load_network
from densefit.landmarks.tracker import load_tracker
from densefit.landmarks.weights import SHIPPED, WEIGHTS_FOLDER
from densefit.memory import keep_freed_memory
from densefit.train import evaluate
from densefit.train.augment import Augmenter
from densefit.train.backgrounds import background_bank
from densefit.train.dataset import HELD_OUT_FRACTION, ShardFolder
from densefit.train.landmark_task import LandmarkTaskOptions
from densefit.train.random import Draws

KINDS = ("landmarks", "closeup")
UNSEEN = 0.99
"""Share of shards that no network was trained on; the rest stands for training data."""


def predict(
    kind: str, head: HeadModel, chosen: argparse.Namespace
) -> tuple[evaluate.Predictions, ShardFolder, int]:
    """Predictions of one network on held-out renders; the renders, and the crop's side."""
    weights = chosen.weights / SHIPPED[kind].name
    network = load_network(weights, head.landmarks_version, kind)
    options = LandmarkTaskOptions()
    layout = FaceLayout.of(head)
    if kind == "closeup":
        options, layout = LandmarkTaskOptions.for_closeup(64), FaceLayout.closeup(head)
    kept = UNSEEN if chosen.unseen else HELD_OUT_FRACTION
    store = ShardFolder(
        chosen.shards, head.landmarks_version, least_size=options.least_picture, held_out=kept
    )
    size = network.config.input_size
    bank = background_bank(300, size, np.random.default_rng(99), chosen.backgrounds)
    augmenter = Augmenter(layout, bank, Draws(2024), options.augment)
    corners = (int(head.ibug68[36]), int(head.ibug68[45]))
    found = evaluate.predict_held_out(network, store, augmenter, chosen.count, corners)
    return found, store, size


def predict_photos(
    store: ShardFolder, head: HeadModel, chosen: argparse.Namespace
) -> dict[str, float]:
    """Figures of the whole predictor on held-out renders (of the full size) as photographs."""
    tracker = load_tracker(
        head,
        weights=chosen.weights / SHIPPED["landmarks"].name,
        closeup_weights=chosen.weights / SHIPPED["closeup"].name,
    )
    count = min(chosen.photos, store.held_out)
    faces = store.batch(np.arange(count), held_out=True)
    size = faces.rgba.shape[1]
    bank = background_bank(50, size, np.random.default_rng(7), chosen.backgrounds)
    corners = head.ibug68[[36, 45]]
    errors, sigmas, seen = [], [], []
    for i in range(count):
        rgba, behind = faces.rgba[i].numpy(), bank[i % len(bank)].permute(1, 2, 0).numpy()
        picture = rgba[..., :3] + behind * (1 - rgba[..., 3:] / 255.0)
        face = tracker.find([picture.round().clip(0, 255).astype(np.uint8)])[0]
        if face is None:
            continue
        truth = (faces.landmarks[i].numpy() + 1) * size / 2 - 0.5
        scale = max(float(np.linalg.norm(truth[corners[0]] - truth[corners[1]])), size / 5)
        errors.append(np.linalg.norm(face.xy - truth, axis=1) / scale)
        sigmas.append(face.sigma / scale)
        seen.append(faces.visible[i].numpy())
    error, sigma, visible = np.stack(errors), np.stack(sigmas), np.stack(seen)
    inner = head.ibug68[17:]
    return {
        "missed": count - len(error),
        "error of 51 inner points, %": 100 * float(error[:, inner].mean()),
        "error of visible landmarks, %": 100 * float(error[visible].mean()),
        "hidden_sigma_ratio": float(np.median(sigma[~visible]) / np.median(sigma[visible])),
        "within_1_sigma": float((error < sigma).mean()),
        "within_2_sigma": float((error < 2 * sigma).mean()),
    }


def plot(curves: dict[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Share of errors within k sigma, against what a circular Gaussian has (Rayleigh)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 5), dpi=110)
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="ideal")
    for name, (expected, observed) in curves.items():
        axes.plot(expected, observed, label=name)
    axes.set_xlabel("share of errors expected within k sigma")
    axes.set_ylabel("share found")
    axes.set_aspect("equal")
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("shards", type=Path)
    parser.add_argument("--weights", type=Path, default=WEIGHTS_FOLDER, help="folder")
    parser.add_argument("--backgrounds", type=Path)
    parser.add_argument("--unseen", action="store_true", help="no shard was trained on")
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--photos", type=int, default=200, help="renders shown as photographs")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    keep_freed_memory()
    head = load_head()
    table: list[dict[str, object]] = []
    curves = {}
    for kind in KINDS:
        found, store, size = predict(kind, head, options)
        points = head.ibug68[17:] if kind == "closeup" else head.ibug68
        figures = evaluate.scores(found, points, size)
        print(f"\n{kind}: {options.count} crops of {store.held_out} held-out renders")
        for name, value in figures.items():
            print(f"{name:24s} {value:8.3f}")
            table.append({"name": f"{kind} {name}", "value": value, "unit": "", "peer": None})
        print(f"{'region (visible)':24s} {'error px':>8s} {'sigma px':>8s}")
        inside = in_closeup(head.landmark_region, head.region_names)
        regions = evaluate.error_by_region(found, head.landmark_region, head.region_names, size)
        for name, (error, sigma) in regions.items():
            print(f"{name:24s} {error:8.2f} {sigma:8.2f}")
        columns = inside if kind == "closeup" else np.ones_like(inside)
        ratio = np.sort((found.error / found.sigma).numpy()[:, columns], axis=None)
        k = np.linspace(0, 4, 81)
        observed = np.searchsorted(ratio, k) / len(ratio)
        curves[kind] = (1 - np.exp(-(k**2) / 2), observed)
        if kind == "closeup" and options.photos:
            print(f"\npredict, {options.photos} renders as photographs")
            for name, value in predict_photos(store, head, options).items():
                print(f"{name:32s} {value:8.3f}")
                table.append({"name": f"predict {name}", "value": value, "unit": "", "peer": None})
    if options.plot:
        plot(curves, options.plot)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
