"""Scores of the landmark network on held-out renders: error by region, sigma, calibration.

    python benchmarks/landmarks_renders.py SHARDS [--weights FILE] [--count 600] [--json FILE]

SHARDS is the folder that the network was trained on; the last images of every shard were never
trained on. Each is augmented as in training (the same every time). Pixels are those of the crop.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from densefit.head import load_head
from densefit.landmarks.crop import FaceLayout
from densefit.landmarks.network import load_network
from densefit.memory import keep_freed_memory
from densefit.train import evaluate
from densefit.train.augment import Augmenter, AugmentOptions
from densefit.train.backgrounds import background_bank
from densefit.train.dataset import ShardFolder
from densefit.train.random import Draws


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("shards", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--backgrounds", type=Path)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    keep_freed_memory()
    head = load_head()
    network = load_network(options.weights, head.landmarks_version)
    size = network.config.input_size
    store = ShardFolder(options.shards, head.landmarks_version)
    bank = background_bank(300, size, np.random.default_rng(99), options.backgrounds)
    augmenter = Augmenter(FaceLayout.of(head), bank, Draws(2024), AugmentOptions(size=size))
    corners = (int(head.ibug68[36]), int(head.ibug68[45]))
    found = evaluate.predict_held_out(network, store, augmenter, options.count, corners)
    figures = evaluate.scores(found, head.ibug68, size)
    print(
        f"{store.held_out} renders held out of {len(store) + store.held_out}, {options.count} crops"
    )
    for name, value in figures.items():
        print(f"{name:24s} {value:8.3f}")
    print(f"\n{'region (visible)':24s} {'error px':>8s} {'sigma px':>8s}")
    regions = evaluate.error_by_region(found, head.landmark_region, head.region_names, size)
    for name, (error, sigma) in regions.items():
        print(f"{name:24s} {error:8.2f} {sigma:8.2f}")
    if options.json:
        table = [
            {"name": f"renders {n}", "value": v, "unit": "", "peer": None, "peer_value": None}
            for n, v in figures.items()
        ]
        options.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
