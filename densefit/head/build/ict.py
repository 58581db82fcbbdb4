"""Reads ICT-FaceKit Light (MIT), whose mean, identities and expressions come from real scans."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

CENTIMETRE = 0.01
# ICT-FaceKit splits what ARKit keeps in one shape.
WHOLE = ("browInnerUp", "cheekPuff")
# Vertex ranges of the ICT-FaceKit topology.
OUTER_SKIN = slice(0, 11248)
TEETH_AND_GUMS = slice(14062, 21451)
EYEBALLS = (slice(22221, 23021), slice(23791, 24591))  # left, right sclera and cornea
IDENTITY_CLIP = 2.2
"""Standard deviations; beyond it the ICT basis stops looking human."""


@dataclass(frozen=True)
class IctModel:
    """Mean head and identity basis, metres, y up, z forward, symmetric about x = 0."""

    neutral: Array
    """(26719, 3)."""
    identity: Array
    """(100, 26719, 3) per standard deviation."""
    skin: Array
    """(F, 3): triangles of the outer skin."""
    landmarks: Array
    """(68,): vertices in iBUG order."""
    shapes: dict[str, Array]
    """ARKit name to (26719, 3) metres; tongueOut is not among them."""

    @property
    def jaw_open(self) -> Array:
        """(26719, 3): the shape jawOpen."""
        return self.shapes["jawOpen"]

    def eye_centres(self) -> Array:
        """(2, 3): centres of the left and right eyeball spheres, and their radius."""
        return np.stack([_sphere(self.neutral[part])[0] for part in EYEBALLS])

    def eye_radius(self) -> float:
        """Radius of the eyeball spheres in metres (larger than anatomy)."""
        return float(_sphere(self.neutral[EYEBALLS[0]])[1])


def _sphere(points: Array) -> tuple[Array, float]:
    """Least-squares sphere: centre and radius."""
    system = np.column_stack([2 * points, np.ones(len(points))])
    solution = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0]
    centre = solution[:3]
    return centre, float(np.sqrt(solution[3] + centre @ centre))


def read_ict(folder: Path) -> IctModel:
    """Read `ict_light_f16.npz` and `vertex_indices.json` from a folder."""
    with np.load(folder / "ict_light_f16.npz", allow_pickle=False) as archive:
        neutral = archive["neutral"].astype(np.float64) * CENTIMETRE
        identity = archive["identity"].astype(np.float32) * CENTIMETRE
        triangles = archive["triangles"].astype(np.int64)
        shapes = by_arkit_name(archive["expression_names"], archive["expression"])
    indices = json.loads((folder / "vertex_indices.json").read_text())
    skin = triangles[(triangles < OUTER_SKIN.stop).all(1)]
    shapes = {name: shape * CENTIMETRE for name, shape in shapes.items()}
    return IctModel(neutral, identity, skin, np.array(indices["idx_to_landmark_verts"]), shapes)


def by_arkit_name(names: Array, shapes: Array) -> dict[str, Array]:
    """ICT-FaceKit's shapes (N, V, 3) float64 by ARKit's names: sides written out, halves that ARKit
    keeps in one shape added up."""
    out: dict[str, Array] = {}
    for name, shape in zip(names, shapes, strict=True):
        stem, _, side = str(name).rpartition("_")
        delta = shape.astype(np.float64)
        if side not in ("L", "R"):
            out[str(name)] = delta
        elif stem in WHOLE:
            out[stem] = out.get(stem, 0) + delta
        else:
            out[stem + {"L": "Left", "R": "Right"}[side]] = delta
    return out


def population(model: IctModel, number: int, even_seeds: bool = True) -> Array:
    """Coefficients (number, 100) of random people; even seeds build priors, odd seeds test them."""
    seeds = [2 * i + (0 if even_seeds else 1) for i in range(number)]
    draws = [np.random.default_rng(s).normal(size=len(model.identity)) for s in seeds]
    return np.clip(np.stack(draws), -IDENTITY_CLIP, IDENTITY_CLIP)
