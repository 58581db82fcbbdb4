"""Renders training shards: `python -m densefit.synth.render_shards --out DIR --count N --seed S`.

A shard is an uncompressed npz of SHARD_SIZE pictures, the last one of fewer:
`rgba (N, 4, S, S) uint8` (foreground over alpha, no background),
`landmarks (N, 703, 2) float32` px with pixel centres at integers,
`visible (N, 703) bool`, `depth (N, 703) float32` metres, `K (N, 3, 3)`, `rotation (N, 3, 3)`
and `translation (N, 3)` (head to camera, metres), `landmarks_version`, and `options`, JSON of what
it was rendered with. People depend on seed, number of the shard and options, not on how many are
rendered at once. Shards that exist are kept, so that the same command continues after a break;
those of the same seed and other options are refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from densefit.errors import InputError
from densefit.files import ensure_out_dir, read_npz_array, write_npz
from densefit.head.model import HeadModel
from densefit.landmarks.jobs import resolve_device
from densefit.model_file import open_head
from densefit.module_main import DEVICES, exit_code, integer, number
from densefit.progress import progress
from densefit.synth.light import load_environments
from densefit.synth.people import ACTS
from densefit.synth.render import CHUNK, Renderer
from densefit.synth.sampling import joined, rows, to_device
from densefit.synth.scene import Scene, SceneOptions, sample_scene

SHARD_SIZE = 128
DRAWN_TOGETHER = 16
"""Scenes that are drawn at once: another number would give other people."""
BATCHES = {"cpu": 16, "cuda": 64}
"""Scenes that are rendered at once where nothing else is said."""


@dataclass(frozen=True)
class ShardOptions:
    """How shards are rendered.

    count: pictures in all. seed: other seeds give other people. size: pixels a side. supersample:
    rendered larger by this factor. batch: scenes at once, None: see BATCHES. environments: folder
    of HDR panoramas, or a file of `densefit.synth.pack`. device: auto, cpu or cuda. model: other
    head model than the shipped one, with the same landmarks (as `densefit model import` writes
    them).
    """

    count: int = 256
    seed: int = 0
    size: int = 352
    supersample: float = 1.375
    batch: int | None = None
    environments: Path | None = None
    device: str = "cpu"
    model: Path | None = None
    scene: SceneOptions = SceneOptions()


def render_shards(out: Path, options: ShardOptions, head: HeadModel | None = None) -> list[Path]:
    """Render the missing shards into `out`; returns all their paths.

    Raises:
        InputError: `environments` holds no panoramas, there is no such device, `out` cannot be
            written to, or it holds shards of the same seed and other options.
    """
    head = head or open_head(options.model)
    device = resolve_device(options.device)
    ensure_out_dir(out)
    maps = load_environments(options.environments) if options.environments else None
    stated = _stated(options, head, maps)
    total = -(-options.count // SHARD_SIZE)
    sizes = {
        out / f"shard_{options.seed}_{k}.npz": min(SHARD_SIZE, options.count - k * SHARD_SIZE)
        for k in range(total)
    }
    missing = {p: n for p, n in sizes.items() if not (p.exists() and _is_whole(p, n, stated))}
    if not missing:
        return list(sizes)
    batch = options.batch or BATCHES[device]
    renderer = Renderer(head, device, CHUNK if device == "cpu" else batch)
    with progress(sum(missing.values()), "render", unit="pictures") as bar:
        for path, count in missing.items():
            # Seeds up to 2^63 are allowed, and this is what generators take.
            seed = (options.seed * 1_000_003 + int(path.stem.split("_")[-1])) % 2**63
            generator = torch.Generator().manual_seed(seed)
            drawn = [
                sample_scene(
                    DRAWN_TOGETHER, generator, head.identity_count, renderer.root_counts, maps,
                    options.scene,
                )
                for _ in range(0, count, DRAWN_TOGETHER)
            ]  # fmt: skip
            scenes = rows(joined(drawn), slice(count))
            parts: list[dict[str, np.ndarray]] = []
            for start in range(0, count, batch):
                some = rows(scenes, slice(start, start + batch))
                parts.append(_render_some(renderer, to_device(some, device), options))
                bar.advance(len(parts[-1]["rgba"]))
            arrays = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
            version = np.array(head.landmarks_version)
            write_npz(path, landmarks_version=version, options=np.array(stated), **arrays)
    return list(sizes)


def _stated(options: ShardOptions, head: HeadModel, maps: torch.Tensor | None) -> str:
    """What a shard is rendered with besides its seed, as JSON."""
    lights = None if maps is None else hashlib.sha256(maps.numpy().tobytes()).hexdigest()
    return json.dumps(
        {
            "size": options.size,
            "supersample": options.supersample,
            **asdict(options.scene),
            "environments": lights and lights[:12],
            "model": head.sha256[:12],
        }
    )


def _is_whole(path: Path, count: int, stated: str) -> bool:
    """Whether a shard has as many pictures as are wanted; those of earlier versions are as stated.

    Raises:
        InputError: it was rendered with other options, or is damaged.
    """
    there = len(read_npz_array(path, "landmarks"))
    with np.load(path, allow_pickle=False) as shard:
        found = str(shard["options"]) if "options" in shard else stated
    if found != stated:
        before, now = json.loads(found), json.loads(stated)
        changed = [f"{k} {before.get(k)}, not {v}" for k, v in now.items() if before.get(k) != v]
        raise InputError(
            f"{path}: rendered with {'; '.join(changed)}; choose another --out or --seed"
        )
    return there >= count


def _render_some(renderer: Renderer, scene: Scene, options: ShardOptions) -> dict[str, np.ndarray]:
    batch = renderer.render(scene, options.size, options.supersample)
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
    parser.add_argument(
        "--count", type=integer(1), default=SHARD_SIZE,
        help=f"pictures in all, in files of {SHARD_SIZE}, the last one of fewer",
    )  # fmt: skip
    parser.add_argument("--seed", type=integer(0), default=0, help="other seeds give other people")
    parser.add_argument("--size", type=integer(32, 2048), default=352, help="pixels a side")
    parser.add_argument(
        "--supersample", type=number(1, 8), default=1.375, help="render larger by this factor"
    )
    parser.add_argument(
        "--margin", type=number(0.5, 10), nargs=2, default=(1.8, 2.0), metavar=("LOW", "HIGH"),
        help="side of the picture over the face's (close-ups learn from 1.2 1.45)",
    )  # fmt: skip
    parser.add_argument(
        "--batch", type=integer(1, SHARD_SIZE),
        help=f"scenes rendered at once; default {BATCHES['cpu']}, on cuda {BATCHES['cuda']}",
    )  # fmt: skip
    parser.add_argument("--threads", type=integer(1, 1024), default=1, help="CPU threads")
    parser.add_argument(
        "--environments", type=Path, help="folder of .hdr panoramas to light with, or one packed"
    )
    parser.add_argument("--model", type=Path, help="other head model, from `densefit model import`")
    parser.add_argument(
        "--favour", choices=sorted(ACTS), help="an expression that two of three pictures show"
    )
    parser.add_argument(
        "--spread",
        type=number(0.1, 10),
        default=1.0,
        help="people differ up to so many times as much as the model's do (1: as much)",
    )
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where to render")
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
    return exit_code(lambda: render_shards(chosen.out, options))


if __name__ == "__main__":
    sys.exit(main())
