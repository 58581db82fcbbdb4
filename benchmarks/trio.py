"""Vertex error on the sample rig with known truth: `python benchmarks/trio.py [--json FILE]`.

Once from the true landmarks with 1 px of noise (the fit alone), once from the videos (network and
fit). Errors are over the face and the front of the skull, world frame, millimetres. Then from the
videos with all extrinsics withheld: how far the cameras found are from the true ones, up to a
similarity: the best one, and the one that puts the first camera in its place.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from one_person import inputs

from calibration import Camera
from densefit.capture import load_take
from densefit.export.scene import frame_vertices
from densefit.files import read_npz
from densefit.fit import FitOptions, Observations, fit
from densefit.fit_file import read_fit
from densefit.fit_rig import FitRigOptions, run_fit_rig
from densefit.head import load_head
from densefit.head.rotation import rotation_matrix
from densefit.landmarks.predictor import PredictOptions

TRIO = Path(__file__).parent.parent / "sample_rigs" / "trio"


def relative(cameras: list[Camera]) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (C, 3, 3) and centres (C, 3) in the first camera's frame."""
    first = np.asarray(cameras[0].T_camera_world)
    turns = [np.asarray(c.T_camera_world)[:3, :3] @ first[:3, :3].T for c in cameras]
    return np.stack(turns), np.stack([first[:3, :3] @ c.position + first[:3, 3] for c in cameras])


def aligned(turns: np.ndarray, centres: np.ndarray, true_turns: np.ndarray, true: np.ndarray):
    """Largest angle (radians) and distance of cameras from the true ones after a similarity: its
    rotation is the chordal mean of the cameras' (Hartley et al., Rotation averaging, IJCV 2013),
    its scale and shift fit the centres."""
    u, _, v = np.linalg.svd(np.einsum("cji,cjk->ik", true_turns, turns))
    turn = u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v
    cosine = (np.einsum("cij,kj,cik->c", turns, turn, true_turns, optimize=True) - 1) / 2
    moved = (centres - centres.mean(axis=0)) @ turn.T
    middle = true - true.mean(axis=0)
    scale = (moved * middle).sum() / np.square(moved).sum()
    apart = np.linalg.norm(scale * moved - middle, axis=1)
    return np.arccos(np.clip(cosine, -1, 1)).max(), apart.max()


def withheld(out: Path) -> list[tuple[str, float, str]]:
    """Figures of a fit to the videos' landmarks in `out` that is told no camera's place."""
    part = inputs(TRIO / "take.yaml", out)
    lost = [replace(camera, T_camera_world=None) for camera in part.cameras]
    found = fit(load_head(), lost, part.observations, FitOptions())
    (turns, centres), (true_turns, true) = relative(found.cameras), relative(part.cameras)
    scale = float((centres * true).sum() / np.square(centres).sum())
    cosine = (np.einsum("cij,cij->c", turns, true_turns) - 1) / 2
    baseline = max(np.linalg.norm(a - b) for a in true for b in true)
    shift = np.linalg.norm(scale * centres - true, axis=1).max() / baseline
    best = aligned(turns, centres, true_turns, true)
    return [
        ("rotation after the best similarity", float(np.degrees(best[0])), "degrees"),
        ("centre after the best similarity", 100 * float(best[1] / baseline), "% of the baseline"),
        (
            "rotation against the first camera",
            float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).max()),
            "degrees",
        ),
        ("centre, first camera in place", 100 * float(shift), "% of the baseline"),
        ("scale", 100 * (1 / scale - 1), "%"),
        ("scale, stated deviation", 100 * found.scale_std, "%"),
    ]


def main() -> None:
    """Print all errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/trio"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    head, truth, take = load_head(), read_npz(TRIO / "truth.npz"), load_take([TRIO / "take.yaml"])
    shape = head.vertices(truth["identity"], truth["expression"], truth["joints"])
    turned = np.einsum("tij,tvj->tvi", rotation_matrix(truth["rotation"]), shape)
    world = turned + truth["translation"][:, None]
    front = (head.template[:, 2] > -0.06) & (head.template[:, 1] > -0.11)

    cameras = [take.camera(name) for name in take.sources]
    points = head.landmarks(world)
    flat = [c.project(points.reshape(-1, 3)).reshape(len(points), -1, 2) for c in cameras]
    xy = np.stack(flat, 1) + np.random.default_rng(0).normal(size=(len(points), len(flat), 703, 2))
    observed = Observations(
        xy.astype(np.float32), np.ones(xy.shape[:3], np.float32), np.ones(xy.shape[:2], bool),
        truth["time"],
    )  # fmt: skip
    alone = frame_vertices(fit(head, cameras, observed, FitOptions()), head)
    run = FitRigOptions(PredictOptions(overwrite=True), FitOptions(), overwrite=True, overlay=False)
    run_fit_rig(take, options.out, run)
    video = frame_vertices(read_fit(options.out, head), head)
    rows = []
    for name, found in (("true landmarks, 1 px noise", alone), ("videos, shipped network", video)):
        error = np.linalg.norm(found - world, axis=2)[:, front] * 1e3
        for what, value in (("median", np.median(error)), ("p95", np.percentile(error, 95))):
            print(f"{name:30s} {what:8s} {value:8.2f} mm")
            row = {"name": f"{name}, {what}", "value": float(value), "unit": "mm"}
            rows.append(row | {"peer": None, "peer_value": None})
    for what, value, unit in withheld(options.out):
        print(f"{'extrinsics withheld':30s} {what:24s} {value:8.2f} {unit}")
        row = {"name": f"extrinsics withheld, {what}", "value": value, "unit": unit}
        rows.append(row | {"peer": None, "peer_value": None})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
