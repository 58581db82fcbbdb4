"""Speed of the renderer: `python benchmarks/synth.py [--json FILE] [--pictures 32]`.

Pictures a second at training size (352 px, averaged to 176), with geometry, hair, shadow, shading
and labels: for one process and for one a core, each on one thread, and on a GPU where there is one.
The peer for the visibility part alone is Embree, as Open3D's RaycastingScene runs it: both find the
nearest triangle of the head behind every pixel, on one thread, new geometry for every picture.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from densefit.head.model import load_head
from densefit.synth import raster
from densefit.synth.render import Renderer
from densefit.synth.sampling import to_device
from densefit.synth.scene import Scene, sample_scene
from densefit.synth.views import camera_points, cut_out, project, supersampled

SIZE, SUPERSAMPLE, BATCH = 176, 2, 16
GPU_BATCH = 64


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None


def scenes(renderer: Renderer, pictures: int) -> list[Scene]:
    """Batches of scenes, the same in every run."""
    generator = torch.Generator().manual_seed(0)
    count = renderer.head.identity_count
    return [
        sample_scene(BATCH, generator, count, renderer.root_counts)
        for _ in range(pictures // BATCH)
    ]


def worker(pictures: int) -> tuple[float, float]:
    """Render in this process on one thread; returns wall seconds and CPU seconds."""
    torch.set_num_threads(1)
    renderer = Renderer(load_head())
    batches = scenes(renderer, pictures)
    renderer.render(batches[0], SIZE, SUPERSAMPLE)
    wall, cpu = time.perf_counter(), time.process_time()
    for scene in batches:
        renderer.render(scene, SIZE, SUPERSAMPLE)
    return time.perf_counter() - wall, time.process_time() - cpu


def rendering(pictures: int, workers: int) -> list[Row]:
    """Pictures a second of several single-threaded processes at once."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        spent = list(pool.map(worker, [pictures] * workers))
    total = BATCH * (pictures // BATCH)
    rate = sum(total / wall for wall, _ in spent)
    name = f"render, {workers} process{'es' * (workers > 1)}"
    rows = [Row(name, rate, "pictures/s")]
    if workers == 1:
        rows.append(Row("render", total / spent[0][1], "pictures per CPU second"))
    return rows


def rendering_on_gpu(pictures: int) -> list[Row]:
    """Pictures a second of one process on the GPU; no row where there is none."""
    if not torch.cuda.is_available():
        return []
    renderer = Renderer(load_head(), "cuda", chunk=GPU_BATCH)
    generator = torch.Generator().manual_seed(0)
    some = (GPU_BATCH, generator, renderer.head.identity_count, renderer.root_counts)
    batches = [
        to_device(sample_scene(*some), "cuda") for _ in range(1 + max(2, pictures // GPU_BATCH))
    ]
    renderer.render(batches[0], SIZE, SUPERSAMPLE)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for scene in batches[1:]:
        renderer.render(scene, SIZE, SUPERSAMPLE)
    torch.cuda.synchronize()
    rate = GPU_BATCH * (len(batches) - 1) / (time.perf_counter() - start)
    return [Row(f"render, {torch.cuda.get_device_name()}", rate, "pictures/s")]


def visibility(renderer: Renderer, scene: Scene) -> list[Row]:
    """The rasteriser beside Embree on the same heads, one thread; and how far they agree."""
    import open3d as o3d

    torch.set_num_threads(1)
    head = renderer.head
    triangles = torch.as_tensor(head.triangles).long()
    geometry = renderer.geometry.build(scene)
    views = cut_out(scene.poses, geometry.landmarks[:, renderer.face], SIZE)
    points = camera_points(views, geometry.vertices[:, : len(head.template)])
    K, size = supersampled(views.K, SUPERSAMPLE), SIZE * SUPERSAMPLE
    pixels = project(points, K)
    raster.rasterize(pixels, triangles, size, size, "none")
    start = time.process_time()
    ids, _ = raster.rasterize(pixels, triangles, size, size, "none")
    ours = len(points) / (time.process_time() - start)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    grid = np.stack([x, y, np.ones_like(x)], -1)
    same = covered = 0
    spent = 0.0
    for k in range(len(points)):
        rays = grid @ np.linalg.inv(K[k].numpy()).T
        rays = np.concatenate([np.zeros_like(rays), rays], -1).astype(np.float32)
        corners = o3d.core.Tensor(np.ascontiguousarray(points[k].numpy()))
        faces, cast = o3d.core.Tensor(head.triangles.astype(np.uint32)), o3d.core.Tensor(rays)
        start = time.process_time()
        caster = o3d.t.geometry.RaycastingScene(nthreads=1)
        caster.add_triangles(corners, faces)
        hits = caster.cast_rays(cast, nthreads=1)
        spent += time.process_time() - start
        found = np.where(
            np.isfinite(hits["t_hit"].numpy()), hits["primitive_ids"].numpy().astype(np.int64), -1
        )
        either = (found >= 0) | (ids[k].numpy() >= 0)
        same += int((found == ids[k].numpy())[either].sum())
        covered += int(either.sum())
    return [
        Row(
            "visibility, 1 thread",
            ours,
            "pictures/s",
            "Open3D RaycastingScene",
            len(points) / spent,
        ),
        Row("same triangle as Open3D", 100 * same / covered, "% of pixels"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--pictures", type=int, default=32)
    arguments = parser.parse_args()
    rows = []
    for workers in sorted({1, os.cpu_count() or 1}):
        rows += rendering(max(BATCH, arguments.pictures), workers)
    rows += rendering_on_gpu(arguments.pictures)
    renderer = Renderer(load_head())
    rows += visibility(renderer, scenes(renderer, BATCH)[0])
    for row in rows:
        peer = f"   ({row.peer}: {row.peer_value:.1f})" if row.peer else ""
        print(f"{row.name:28s} {row.value:8.1f} {row.unit}{peer}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
