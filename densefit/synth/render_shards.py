"""Renders training shards: `python -m densefit.synth.render_shards --out DIR --count N --seed S`.

A shard is an uncompressed npz of SHARD_SIZE pictures: `rgba (N, 4, S, S) uint8` (foreground over
alpha, no background), `landmarks (N, 703, 2) float32` px with pixel centres at integers,
`visible (N, 703) bool`, `depth (N, 703) float32` metres, `K (N, 3, 3)`, `rotation (N, 3, 3)`
and `translation (N, 3)` (head to camera, metres), `landmarks_version`. A shard depends on its seed
and number only; shards that exist are kept, so that the same command continues after a break.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from densefit.files import write_npz
from densefit.head.model import HeadModel, load_head
from densefit.progress import progress
from densefit.synth.light import load_environments
from densefit.synth.people import ACTS
from densefit.synth.render import CHUNK, Renderer
from densefit.synth.sampling import to_device
from densefit.synth.scene import SceneOptions, sample_scene

SHARD_SIZE = 128


@dataclass(frozen=True)
class ShardOptions:
    """How shards are rendered.

    count: pictures in all (rounded up to whole shards). seed: other seeds give other people.
    size: pixels a side. supersample: rendered larger by this factor. batch: scenes at once.
    environments: folder of HDR panoramas. device: cpu or cuda. model: other head model than the
    shipped one, with the same landmarks (as `densefit model import` writes them).
    """

    count: int = 256
    seed: int = 0
    size: int = 352
    supersample: float = 1.375
    batch: int = 16
    environments: Path | None = None
    device: str = "cpu"
    model: Path | None = None
    scene: SceneOptions = SceneOptions()


def render_shards(out: Path, options: ShardOptions, head: HeadModel | None = None) -> list[Path]:
    """Render the missing shards into `out`; returns all their paths.

    Raises:
        InputError: `environments` holds no panoramas.
    """
    head = head or load_head(options.model)
    out.mkdir(parents=True, exist_ok=True)
    total = -(-options.count // SHARD_SIZE)
    paths = [out / f"shard_{options.seed}_{k}.npz" for k in range(total)]
    missing = [k for k, path in enumerate(paths) if not path.exists()]
    if not missing:
        return paths
    chunk = CHUNK if options.device == "cpu" else options.batch
    renderer = Renderer(head, options.device, chunk)
    maps = load_environments(options.environments) if options.environments else None
    with progress(len(missing) * SHARD_SIZE, "render", unit="pictures") as bar:
        for k in missing:
            generator = torch.Generator().manual_seed(options.seed * 1_000_003 + k)
            parts: list[dict[str, np.ndarray]] = []
            for start in range(0, SHARD_SIZE, options.batch):
                number = min(options.batch, SHARD_SIZE - start)
                parts.append(_render_some(renderer, options, maps, generator, number))
                bar.advance(number)
            arrays = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
            write_npz(paths[k], landmarks_version=np.array(head.landmarks_version), **arrays)
    return paths


def _render_some(
    renderer: Renderer,
    options: ShardOptions,
    maps: torch.Tensor | None,
    generator: torch.Generator,
    number: int,
) -> dict[str, np.ndarray]:
    head = renderer.head
    scene = sample_scene(
        number, generator, head.identity_count, renderer.root_counts, maps, options.scene
    )
    batch = renderer.render(to_device(scene, options.device), options.size, options.supersample)
    return {
        "rgba": batch.rgba.cpu().numpy(),
        "landmarks": batch.landmarks_px.cpu().numpy(),
        "visible": batch.visible.cpu().numpy(),
        "depth": batch.depth.cpu().numpy(),
        "K": batch.views.K.cpu().numpy(),
        "rotation": batch.views.rotation.cpu().numpy(),
        "translation": batch.views.translation.cpu().numpy(),
    }


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and render."""
    parser = argparse.ArgumentParser(
        prog="python -m densefit.synth.render_shards",
        description="Render training shards. Run one process a core, each with its own --seed.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for shard_SEED_K.npz")
    parser.add_argument("--count", type=int, default=SHARD_SIZE, help="pictures in all")
    parser.add_argument("--seed", type=int, default=0, help="other seeds give other people")
    parser.add_argument("--size", type=int, default=352, help="pixels a side")
    parser.add_argument(
        "--supersample", type=float, default=1.375, help="render larger by this factor"
    )
    parser.add_argument(
        "--margin", type=float, nargs=2, default=(1.8, 2.0), metavar=("LOW", "HIGH"),
        help="side of the picture over the face's (close-ups learn from 1.2 1.45)",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=16, help="scenes rendered at once")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--environments", type=Path, help="folder of .hdr panoramas to light with")
    parser.add_argument("--model", type=Path, help="other head model, from `densefit model import`")
    parser.add_argument(
        "--favour", choices=sorted(ACTS), help="an expression that two of three pictures show"
    )
    parser.add_argument(
        "--spread",
        type=float,
        default=1.0,
        help="people differ up to so many times as much as the model's do (1: as much)",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    options = ShardOptions(
        count=chosen.count, seed=chosen.seed, size=chosen.size, supersample=chosen.supersample,
        batch=chosen.batch,
        environments=chosen.environments, device=chosen.device, model=chosen.model,
        scene=SceneOptions(
            margin=tuple(chosen.margin), favour=chosen.favour, spread=chosen.spread
        ),
    )  # fmt: skip
    render_shards(chosen.out, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
