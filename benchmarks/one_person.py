"""One person, five expressions, three calibrated cameras: `python benchmarks/one_person.py DATA`.

DATA holds rigs/three_cameras: five photo triplets of one person. Every triplet is fitted by itself.
Printed are how far apart the five neutral heads are (median over the face's vertices, rigidly
aligned, all pairs), how much larger the residual is with the mean identity, so that agreement was
not bought by pinning identity to the mean, and how well a fit from Left and Middle alone predicts
the landmarks seen in Right, against the fit to all three.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from densefit.capture import load_take, master_timeline
from densefit.fit import FitOptions, FitResult, fit
from densefit.fit.result import residuals_px
from densefit.fit_inputs import FitInputs, gather
from densefit.head import load_head
from densefit.head.model import HeadModel
from densefit.head.rotation import rotation_matrix
from densefit.landmarks.files import read_landmarks
from densefit.landmarks.predictor import PredictOptions, predict

HELD_OUT = "Right"


@dataclass(frozen=True)
class Agreement:
    """What is measured on separate fits of one person."""

    apart_mm: np.ndarray
    """(pairs,) median distance of the neutral faces of two fits."""
    residual_px: np.ndarray
    """(fits,)."""
    mean_px: np.ndarray
    """(fits,) with identity fixed to the mean."""
    predicted_px: np.ndarray
    """(fits,) of the camera left out."""
    seen_px: np.ndarray
    """(fits,) of the same camera when it takes part."""


def inputs(take_file: Path, out: Path, options: PredictOptions | None = None) -> FitInputs:
    """Landmarks of a take (predicted where `out` has none yet) and its cameras."""
    take = load_take([take_file])
    files = predict(take, out, options or PredictOptions())
    tracks = {name: read_landmarks(file) for name, file in files.items()}
    timeline = master_timeline(take, {n: t.time for n, t in tracks.items()})
    return gather(tracks, timeline, {n: take.camera(n) for n in take.sources}, {})


def face_vertices(head: HeadModel) -> np.ndarray:
    """Vertices of skin from the ears forward."""
    skin = np.unique(head.triangles[head.part_triangles("skin")])
    return skin[head.template[skin, 2] > -0.06]


def aligned(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Points (N, 3) after the rigid motion that brings them nearest to a target (N, 3)."""
    a, b = points.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((target - b).T @ (points - a))
    turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    return (points - a) @ turn.T + b


def pairwise(head: HeadModel, identities: list[np.ndarray]) -> np.ndarray:
    """Median distance in mm of every two neutral faces."""
    face = face_vertices(head)
    neutral = [head.neutral(identity)[face].astype(float) for identity in identities]
    return 1e3 * np.array(
        [
            np.median(np.linalg.norm(aligned(a, b) - b, axis=1))
            for i, a in enumerate(neutral)
            for b in neutral[i + 1 :]
        ]
    )


def without_camera(head: HeadModel, part: FitInputs, options: FitOptions, camera: str) -> float:
    """Residual px in a camera of a fit that does not see it."""
    column = [c.name for c in part.cameras].index(camera)
    observed = part.observations.take(np.arange(len(part.observations.time)))
    valid = observed.valid.copy()
    valid[:, column] = False
    found = fit(head, part.cameras, replace(observed, valid=valid), options)
    world = np.einsum(
        "tij,tvj->tvi",
        rotation_matrix(found.rotation),
        head.vertices(found.identity, found.expression, found.joints),
    )
    points = head.landmarks(world + found.translation[:, None])
    return float(np.nanmedian(residuals_px(points, part.cameras, observed)[:, column]))


def measure(
    head: HeadModel, parts: list[FitInputs], options: FitOptions, camera: str = HELD_OUT
) -> tuple[Agreement, list[FitResult]]:
    """Fit every take by itself, with the mean identity, and without one camera."""
    free = [fit(head, p.cameras, p.observations, options) for p in parts]
    pinned = replace(options, identity=np.zeros(head.identity_count))
    mean = [fit(head, p.cameras, p.observations, pinned) for p in parts]
    column = [c.name for c in parts[0].cameras].index(camera)
    return Agreement(
        pairwise(head, [f.identity for f in free]),
        np.array([np.nanmedian(f.residual_px) for f in free]),
        np.array([np.nanmedian(f.residual_px) for f in mean]),
        np.array([without_camera(head, p, options, camera) for p in parts]),
        np.array([np.nanmedian(f.residual_px[:, column]) for f in free]),
    ), free


def rows(found: Agreement) -> list[dict[str, object]]:
    """The figures, printed."""
    figures = [
        ("neutral faces apart, mean of all pairs", found.apart_mm.mean(), "mm"),
        ("neutral faces apart, farthest pair", found.apart_mm.max(), "mm"),
        ("residual", np.median(found.residual_px), "px"),
        (
            "residual with mean identity / free",
            np.median(found.mean_px) / np.median(found.residual_px),
            "ratio",
        ),
        (
            f"{HELD_OUT} left out / taking part",
            np.median(found.predicted_px) / np.median(found.seen_px),
            "ratio",
        ),
    ]
    out: list[dict[str, object]] = []
    for name, value, unit in figures:
        print(f"{name:44s} {value:8.2f} {unit}")
        row = {"name": f"three_cameras {name}", "value": float(value), "unit": unit}
        out.append(row | {"peer": None, "peer_value": None})
    return out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/one_person"))
    parser.add_argument("--weights", type=Path, help="other networks than the shipped ones")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    files = sorted((chosen.data / "rigs/three_cameras").glob("take_e*.yaml"))
    options = PredictOptions(weights=chosen.weights)
    parts = [inputs(file, chosen.out / file.stem, options) for file in files]
    found, _ = measure(load_head(), parts, FitOptions())
    table = rows(found)
    if chosen.json:
        chosen.json.write_text(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
