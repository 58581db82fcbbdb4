"""Compactness, generalisation and specificity of head models, as the field plots them.

Styner et al., "Evaluation of 3D correspondence methods for model building" (IPMI 2003), on the
landmarks of the face, whose correspondence is known on every model:

- compactness: share of the prior's variance in the first modes;
- generalisation: mean distance of held-out people to their best fit with the first modes;
- specificity: mean distance of random people made from the first modes to the nearest of a
  population.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densefit.errors import InputError
from densefit.evaluate.scans import CLIP
from densefit.head.build.mesh import similarity
from densefit.head.model import HeadModel

Array = np.ndarray[Any, np.dtype[Any]]

STEPS = (1, 2, 5, 10, 20, 40, 60, 80, 100, 150, 200, 256)


@dataclass(frozen=True)
class Curves:
    """Of one model; lengths in metres."""

    modes: Array
    """(M,) numbers of modes."""
    compactness: Array
    """(M,) in [0, 1]."""
    generalisation: Array
    """(M,)."""
    specificity: Array
    """(M,)."""


def face_points(head: HeadModel) -> tuple[Array, Array]:
    """Mean (320, 3) and modes (K, 320, 3) of the face's landmarks."""
    mean = head.landmarks(head.template.astype(np.float64))[head.face320]
    modes = head.landmarks(head.identity_basis.astype(np.float64))[:, head.face320]
    return mean, modes


def measure(head: HeadModel, held_out: Array, population: Array, seed: int = 0) -> Curves:
    """Curves of one model.

    Args:
        held_out: (N, 320, 3) landmarks of people that the model has not seen, metres.
        population: (P, 320, 3) landmarks of many people.
    """
    mean, modes = face_points(head)
    flat = modes.reshape(len(modes), -1)
    # Modes need not be orthogonal on the face: principal axes of the covariance there.
    axes, strength, _ = np.linalg.svd(flat.T, full_matrices=False)
    variance = strength**2
    steps = np.array([s for s in STEPS if s < len(modes)] + [len(modes)])
    rng = np.random.default_rng(seed)
    draws = rng.normal(size=(20, len(strength))) * strength
    general, specific = [], []
    for count in steps:
        part = axes[:, :count]
        general.append(np.mean([_left_over(mean, part, person) for person in held_out]))
        people = (draws[:, :count] @ part.T).reshape(len(draws), -1, 3) + mean
        specific.append(np.mean([_nearest(person, population) for person in people]))
    return Curves(
        steps, np.cumsum(variance)[steps - 1] / variance.sum(), np.array(general),
        np.array(specific),
    )  # fmt: skip


def _aligned(person: Array, onto: Array) -> Array:
    """A person moved rigidly, never scaled, onto another."""
    _, rotation, _ = similarity(person, onto)
    return (person - person.mean(0)) @ rotation.T + onto.mean(0)


def _left_over(mean: Array, axes: Array, person: Array) -> float:
    """Mean distance to the best combination of the axes, with the rigid motion fitted too."""
    centred = mean - mean.mean(0)
    rigid = [np.cross(axis, centred) for axis in np.eye(3)]
    rigid += [np.tile(axis, (len(mean), 1)) for axis in np.eye(3)]
    basis = np.column_stack([axes, np.stack(rigid).reshape(6, -1).T])
    gap = (_aligned(person, mean) - mean).ravel()
    solution = np.linalg.lstsq(basis, gap, rcond=None)[0]
    return float(np.linalg.norm((gap - basis @ solution).reshape(-1, 3), axis=1).mean())


def _nearest(person: Array, population: Array) -> float:
    gaps = [np.linalg.norm(_aligned(other, person) - person, axis=1).mean() for other in population]
    return float(min(gaps))


def people_of(ict: HeadModel, number: int, odd: bool) -> Array:
    """Landmarks (N, 320, 3) of people of ICT-FaceKit; even seeds made priors, odd ones test."""
    mean, modes = face_points(ict)
    seeds = [2 * i + int(odd) for i in range(number)]
    draws = [np.random.default_rng(s).normal(size=len(modes)) for s in seeds]
    return mean + np.tensordot(np.clip(np.stack(draws), -CLIP, CLIP), modes, 1)


def plot_curves(path: Path, models: dict[str, HeadModel], ict: HeadModel) -> None:
    """Draw the three curves of all models into one picture.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise InputError("--curves draws with matplotlib: pip install 'densefit[plots]'") from error

    held_out, population = people_of(ict, 16, True), people_of(ict, 40, False)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4))
    titles = ("compactness", "generalisation (mm)", "specificity (mm)")
    for name, head in models.items():
        curves = measure(head, held_out, population)
        lines = (curves.compactness, curves.generalisation * 1e3, curves.specificity * 1e3)
        for axis, values, title in zip(axes, lines, titles, strict=True):
            axis.plot(curves.modes, values, marker=".", label=name)
            axis.set(xlabel="modes", title=title)
            axis.grid(alpha=0.3)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
