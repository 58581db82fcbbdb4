"""300W (Sagonas et al., 2013): 68 points on photos, normalised mean error in percent of the
distance between the outer corners of the eyes.

    FOLDER/helen/testset, FOLDER/lfpw/testset       the common subset
    FOLDER/ibug                                     the challenging subset

each with pictures and a .pts file of the same stem. No map from densefit's points to the
annotators' habits is fitted; published figures of methods trained on synthetic data usually are
after such a map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densefit.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]

SUBSETS = {
    "common": ("helen/testset", "lfpw/testset"),
    "challenging": ("ibug",),
}
OUTER_CORNERS = (36, 45)
FAILURE = 10.0
"""Percent: an error above this counts as a failure."""


@dataclass(frozen=True)
class SubsetScore:
    """Normalised mean error in percent, and what could not be measured."""

    pictures: int
    missed: int
    """Pictures in which no face was found; they count as failures, but not in the mean."""
    nme: float
    failures: float
    """Share of pictures."""


def evaluate_300w(
    folder: Path, points_of: Callable[[Path, Array], Array | None]
) -> dict[str, SubsetScore]:
    """Scores of the subsets that FOLDER has, and of all (`full`).

    Args:
        points_of: picture, annotation (68, 2) px -> found points (68, 2) of the face that overlaps
            the annotation most, or None.
    Raises:
        InputError: no annotated picture.
    """
    errors: dict[str, list[float]] = {}
    for subset, places in SUBSETS.items():
        files = [f for place in places for f in annotated(folder / place)]
        if files:
            errors[subset] = [_error(picture, pts, points_of) for picture, pts in files]
    if not errors:
        raise InputError(f"{folder}: no pictures with .pts in helen/testset, lfpw/testset or ibug")
    errors["full"] = [e for values in errors.values() for e in values]
    return {name: _score(np.array(values)) for name, values in errors.items()}


def annotated(folder: Path) -> list[tuple[Path, Path]]:
    """Pictures of a folder with their .pts files."""
    pairs = []
    for pts in sorted(folder.glob("*.pts")):
        picture = next(
            (p for e in (".jpg", ".png", ".jpeg") if (p := pts.with_suffix(e)).is_file()), None
        )
        if picture is not None:
            pairs.append((picture, pts))
    return pairs


def read_pts(path: Path) -> Array:
    """(68, 2) float64 px, pixel centres at integers (the files count from 1)."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        body = text[text.index("{") + 1 : text.index("}")]
        points = np.array(body.split(), float).reshape(-1, 2) - 1
    except ValueError as error:
        raise InputError(f"{path}: not a .pts file ({error})") from error
    if points.shape != (68, 2):
        raise InputError(f"{path}: {len(points)} points, expected 68")
    return points


def normalized_error(found: Array, truth: Array) -> float:
    """Mean distance (68, 2) in percent of the distance of the annotated outer eye corners."""
    eyes = np.linalg.norm(truth[OUTER_CORNERS[0]] - truth[OUTER_CORNERS[1]])
    return float(np.linalg.norm(found - truth, axis=1).mean() / eyes * 100)


def _error(picture: Path, pts: Path, points_of: Callable[[Path, Array], Array | None]) -> float:
    truth = read_pts(pts)
    found = points_of(picture, truth)
    return np.nan if found is None else normalized_error(found, truth)


def _score(errors: Array) -> SubsetScore:
    missed = np.isnan(errors)
    mean = float(errors[~missed].mean()) if not missed.all() else float("nan")
    failed = float((missed | (np.nan_to_num(errors) > FAILURE)).mean())
    return SubsetScore(len(errors), int(missed.sum()), mean, failed)


def overlap(a: Array, b: Array) -> float:
    """Intersection over union of two point sets' boxes."""
    low, high = np.maximum(a.min(0), b.min(0)), np.minimum(a.max(0), b.max(0))
    shared = np.prod(np.maximum(high - low, 0))
    return float(shared / (np.prod(np.ptp(a, axis=0)) + np.prod(np.ptp(b, axis=0)) - shared))
