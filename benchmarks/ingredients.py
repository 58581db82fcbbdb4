"""What each ingredient of the training gives: short trainings, each without one of them.

    python benchmarks/ingredients.py SHARDS PHOTOS [--crops 100000] [--backgrounds FOLDER]
        [--own-seeds 93] [--only WORDS ...] [--json FILE]

SHARDS: renders of densefit's head (`--own-seeds`) and of another model. PHOTOS: pictures with .pts
(see landmarks_pts.py). Every training begins from nothing and sees the same number of crops,
fewer than the shipped networks; what counts is the difference between lines. With much fewer crops
than the default (12,000; 48,000) the easier task wins, whatever it leaves out: an eighth of the
renders, or pictures that are not degraded, came out ahead. Errors are per cent of the distance
between the outer eye corners, of the whole-face network alone, in crops that begin around the
annotated face: finding it is not part of this.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from landmarks_pts import INNER, read_pts

from densefit.capture.photos import pictures_in, read_photo
from densefit.head import load_head
from densefit.landmarks.crop import FaceLayout
from densefit.landmarks.look import Looker
from densefit.landmarks.network import LandmarkNet, NetworkConfig
from densefit.memory import keep_freed_memory
from densefit.train.landmark_task import LandmarkTask, LandmarkTaskOptions
from densefit.train.loop import Trainer, TrainOptions
from densefit.train.random import Draws

BATCH = 32
CLOSER_LOOKS = 4


@dataclass(frozen=True)
class Variant:
    """A training: its name, which share of the shards, from which heads, and how it departs."""

    name: str
    share: float = 1.0
    own: bool | None = None
    """only renders of our head (True), only of the other (False), of both (None)"""
    augmented: bool = True
    warped: bool = True
    network: NetworkConfig = NetworkConfig(refined=True)


def _of_widths(*widths: int) -> NetworkConfig:
    return NetworkConfig(widths=widths, refined=True)


VARIANTS = (
    Variant("everything"),
    Variant("light, blur, noise, compression left out", augmented=False),
    Variant("warps left out", warped=False),
    Variant("finer maps left out", network=NetworkConfig()),
    Variant("an eighth of the renders", share=1 / 8),
    Variant("renders of our head alone", own=True),
    Variant("renders of the other head alone", own=False),
    Variant("network of half the width", network=_of_widths(16, 32, 64, 112)),
    Variant("network of 1.5 times the width", network=_of_widths(48, 96, 192, 336)),
)


def chosen_shards(shards: Path, variant: Variant, own_seeds: list[int]) -> list[Path]:
    """The files that a variant is trained on; those of both heads in equal parts where both are."""
    files = sorted(shards.glob("shard_*.npz"))
    is_own = [int(f.stem.split("_")[1]) in own_seeds for f in files]
    groups = [
        [f for f, own in zip(files, is_own, strict=True) if own is side] for side in (True, False)
    ]
    if variant.own is not None:
        return groups[0] if variant.own else groups[1]
    return [f for group in groups for f in group[: max(1, round(len(group) * variant.share))]]


def train(variant: Variant, options: argparse.Namespace) -> LandmarkNet:
    """One short training of the whole-face network."""
    draws = Draws(1, "cpu")
    torch.manual_seed(1)
    task_options = LandmarkTaskOptions(network=variant.network, batch=BATCH, score_samples=64)
    if not variant.augmented:
        plain = replace(task_options.augment, light=0.0, resolution=0.0, noise=0.0, compress=0.0)
        task_options = replace(task_options, augment=plain)
    if not variant.warped:
        plain = replace(task_options.augment, warped=0.0)
        task_options = replace(task_options, augment=plain)
    with tempfile.TemporaryDirectory() as folder:
        for file in chosen_shards(options.shards, variant, options.own_seeds):
            (Path(folder) / file.name).symlink_to(file.resolve())
        task = LandmarkTask(Path(folder), load_head(), draws, task_options, options.backgrounds)
        settings = TrainOptions(batch=BATCH, learning_rate=2e-3)
        trainer = Trainer(task, draws, Path(folder), "short", settings, print)
        steps = options.crops // BATCH
        for step in range(steps):
            trainer.train_step(step / steps)
    network = task.network
    assert isinstance(network, LandmarkNet)
    network.load_state_dict(trainer.average.state)
    return network.eval()


def photo_errors(network: LandmarkNet, photos: Path) -> tuple[float, float]:
    """Mean error of the 51 inner and of all 68 points, per cent."""
    head = load_head()
    looker = Looker(network, FaceLayout.of(head))
    inner, everything = [], []
    for file in pictures_in(photos):
        if not file.with_suffix(".pts").exists():
            continue
        truth, picture = read_pts(file.with_suffix(".pts")), read_photo(file)
        middle, side = (truth.max(0) + truth.min(0)) / 2, np.ptp(truth, axis=0).max()
        roi = np.array([*middle, 1.6 * side, 0.0])
        for _ in range(CLOSER_LOOKS):
            look = looker.look([picture], roi[None], 1)[0]
            roi = look.own
        scale = np.linalg.norm(truth[36] - truth[45])
        error = np.linalg.norm(look.xy[head.ibug68] - truth, axis=1) / scale * 100
        inner.append(error[INNER].mean())
        everything.append(error.mean())
    return float(np.mean(inner)), float(np.mean(everything))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("shards", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--crops", type=int, default=100_000)
    parser.add_argument("--backgrounds", type=Path)
    parser.add_argument("--own-seeds", type=int, nargs="+", default=[93])
    parser.add_argument("--only", nargs="+", default=[""], help="lines whose name has one of these")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    rows = []
    for variant in [v for v in VARIANTS if any(words in v.name for words in options.only)]:
        inner, everything = photo_errors(train(variant, options), options.photos)
        print(
            f"{variant.name:44s} inner 51: {inner:6.2f} %  all 68: {everything:6.2f} %", flush=True
        )
        rows += [
            {"name": f"{variant.name}, {points}", "value": value, "unit": "%", "peer": None}
            for points, value in (("inner 51", inner), ("all 68", everything))
        ]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
