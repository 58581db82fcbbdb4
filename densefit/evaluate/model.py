"""How well a head model stands for real people: `densefit evaluate model`.

Every model is fitted by the same fitter (scan_fit.py) under its own prior, and measured on points
of the face that it was not fitted to: on those that lie on the skin for every model (where one has
its eyeball, or the inside of the nose, is its own affair).

- dense: mean distance of the face's surface to the model fitted to thousands of its points.
- sparse: the same, fitted to 400 points with 1.5 mm of noise; here the prior does the work.
- drift: on people whose true correspondence is known, how far fitted landmarks slid along the
  surface; with all 68 points as weak landmarks, and without those on lids and lips.
- unseen: mean distance of landmarks on skull, ears and neck to the truth when only the face was
  given, beside that of the mean head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from densefit.evaluate.scan_fit import ScanFit, ScanFitOptions, ScanFitter, surface_distance
from densefit.evaluate.scans import Surface, face_samples, held_out_people, noisy, real_heads
from densefit.head.build.mesh import vertex_normals
from densefit.head.model import HeadModel
from densefit.progress import info

Array = np.ndarray[Any, np.dtype[Any]]

LIDS_AND_LIPS = np.arange(36, 68)
CORRESPONDENCE = ScanFitOptions(landmark_noise=1e-3)


@dataclass(frozen=True)
class ModelOptions:
    """What is measured."""

    people: int = 6
    """Held-out people."""
    points: int = 3000
    """Points of the face that are fitted, and as many others that are measured."""
    sparse_points: int = 400
    sparse_noise: float = 1.5e-3
    """Metres: standard deviation per axis."""
    sparse_draws: int = 4
    """Draws of points and noise that the sparse figure is the mean of; one alone is off by 7 %."""


@dataclass(frozen=True)
class Row:
    """One figure, in millimetres."""

    model: str
    subject: str
    measure: str
    value: float


def evaluate_model(
    models: dict[str, HeadModel], heads: Path | None, ict: HeadModel | None, options: ModelOptions
) -> list[Row]:
    """Fit and measure all models on real heads and on held-out people.

    Args:
        models: by name; the first one is also measured for drift and unseen parts.
        heads: folder with real heads (see scans.py), or None.
        ict: an imported ICT-FaceKit, whose odd-seed people are the held-out ones, or None.

    Raises:
        InputError: no head can be read from `heads`.
    """
    first = next(iter(models))
    real = [] if heads is None else real_heads(heads, models[first])
    people = [] if ict is None else held_out_people(ict, options.people)
    fitters = {name: ScanFitter(head) for name, head in models.items()}
    rows: list[Row] = []
    for surface in real + people:
        rows += _distances(fitters, surface, options)
    for surface in people:
        rows += _correspondence(first, fitters[first], surface, options)
    return rows


def _distances(
    fitters: dict[str, ScanFitter], surface: Surface, options: ModelOptions
) -> list[Row]:
    """Dense and sparse fits of one surface by all models, on the points that count for all."""
    scan = face_samples(surface, options.points)
    others = face_samples(surface, options.points, seed=1)
    deviation = ScanFitOptions.expression_deviation if surface.truth is None else 0.0
    dense = ScanFitOptions(expression_deviation=deviation)
    few = replace(dense, noise=options.sparse_noise, effective_points=None)
    draws = [noisy(scan, options.sparse_points, options.sparse_noise, seed)
             for seed in range(options.sparse_draws)]  # fmt: skip
    distances = []
    for name, fitter in fitters.items():
        fits = [fitter.fit(scan, dense), *(fitter.fit(draw, few) for draw in draws)]
        distances.append([surface_distance(fitter, fit, others) for fit in fits])
        info(f"{name}: {surface.name}")
    table: Array = np.array(distances)  # models, fits, points
    table[:, np.isnan(table).any(0)] = np.nan
    rows = []
    for name, (whole, *sparse) in zip(fitters, np.nanmean(table, 2), strict=True):
        rows += [
            Row(name, surface.name, "dense", _mm(whole)),
            Row(name, surface.name, "sparse", _mm(np.mean(sparse))),
            Row(name, surface.name, "sparse, spread of draws", _mm(np.std(sparse))),
        ]
    return rows


def _correspondence(
    name: str, fitter: ScanFitter, surface: Surface, options: ModelOptions
) -> list[Row]:
    """Drift along the surface, and what becomes of the parts that were not seen."""
    scan = face_samples(surface, options.points)
    neutral = replace(CORRESPONDENCE, expression_deviation=0.0)
    rows = []
    bare = surface.landmarks.copy()
    bare[LIDS_AND_LIPS] = np.nan
    for measure, marks in (("drift", surface.landmarks), ("drift without lids and lips", bare)):
        fit = fitter.fit(replace(scan, landmarks=marks), neutral)
        rows.append(Row(name, surface.name, measure, _mm(drift(fitter.head, fit, surface).mean())))
        if measure == "drift":
            rows += _unseen(name, fitter.head, fit, surface)
    return rows


def drift(head: HeadModel, fit: ScanFit, surface: Surface) -> Array:
    """Distances (L,) in metres along the surface between fitted and true landmarks of the face.

    Landmarks that the fit was given, those on the eyeballs and those outside the scanned face do
    not count.
    """
    assert surface.truth is not None
    fitted, truth = head.landmarks(fit.vertices), fit.to_head(surface.truth)
    normals = head.landmarks(vertex_normals(fit.vertices.astype(np.float64), head.triangles))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    gap = fitted - truth
    along = gap - (gap * normals).sum(1, keepdims=True) * normals
    eyes = [i for i, n in enumerate(head.region_names) if "iris" in n or "sclera" in n]
    measured = np.setdiff1d(head.face320, head.ibug68)
    measured = measured[~np.isin(head.landmark_region[measured], eyes)]
    tip = fitted[head.ibug68[30]]
    measured = measured[np.linalg.norm(fitted[measured] - tip, axis=1) < 0.09]
    return np.linalg.norm(along[measured], axis=1)


def _unseen(name: str, head: HeadModel, fit: ScanFit, surface: Surface) -> list[Row]:
    """Distances on skull, ears and neck of the fit, and of the mean head put in its place."""
    assert surface.truth is not None
    truth = fit.to_head(surface.truth)
    rows = []
    for part in ("scalp", "ear", "neck"):
        regions = [i for i, n in enumerate(head.region_names) if part in n]
        # The other model ends higher on the neck; below its border there is no truth.
        chosen = np.flatnonzero(np.isin(head.landmark_region, regions))
        chosen = chosen[head.landmarks(head.template)[chosen, 1] > -0.11]
        for measure, vertices in (("unseen", fit.vertices), ("mean head", head.template)):
            gap = np.linalg.norm(head.landmarks(vertices)[chosen] - truth[chosen], axis=1)
            rows.append(Row(name, surface.name, f"{measure} {part}", _mm(gap.mean())))
    return rows


def _mm(metres: Any) -> float:
    return float(metres) * 1e3


def summary(rows: list[Row]) -> list[tuple[str, str, str, float]]:
    """Means: (measure, kind of subject, model, mm), the real heads one by one."""
    cells: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        kind = "held-out ict" if row.subject.startswith("ict ") else row.subject
        cells.setdefault((row.measure, kind, row.model), []).append(row.value)
    return [(m, k, name, float(np.mean(v))) for (m, k, name), v in cells.items()]
