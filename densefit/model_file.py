"""The head model of `--model`: read, and checked before anything relies on it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from densefit.errors import InputError
from densefit.files import NPZ_ERRORS

if TYPE_CHECKING:
    from densefit.head.model import HeadModel

# What numpy, zipfile and the reader raise on files that are damaged or hold something else.
_DAMAGED = (*NPZ_ERRORS, LookupError, ArithmeticError, Warning)

# Symbolic sizes: V vertices, F triangles, U texture points, K identity modes; None: any.
_SHAPES: dict[str, tuple[str | int, ...]] = {
    "template": ("V", 3),
    "triangles": ("F", 3),
    "uv": ("U", 2),
    "uv_triangles": ("F", 3),
    "triangle_part": ("F",),
    "identity_basis": ("K", "V", 3),
    "expression_basis": (52, "V", 3),
    "joint_centres": (4, 3),
    "joint_basis": ("K", 4, 3),
    "skinning": ("V", 4),
    "landmark_vertices": (703, 3),
    "landmark_weights": (703, 3),
    "landmark_region": (703,),
    "ibug68": (68,),
    "mirror_vertices": ("V",),
    "mirror_landmarks": (703,),
    "lid_limits": (2,),
}


def open_head(model: Path | None = None) -> HeadModel:
    """The head model of `--model`, default the shipped one.

    Raises:
        InputError: it cannot be read, or its arrays do not belong together.
    """
    from densefit.head.model import load_head

    if model is None:
        return load_head()
    try:
        with warnings.catch_warnings():
            # Complex numbers where real ones belong are cast with no more than a warning.
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            head = load_head(Path(model))
        problem = _problem(head)
    except InputError as error:
        text = str(error)
        raise InputError(text if ";" in text else f"{text}; check --model") from error
    except _DAMAGED as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, KeyError):
            problem = f"{problem} is missing"
    if problem:
        raise InputError(f"{model}: not a usable head model ({problem}); check --model")
    return head


def _problem(head: HeadModel) -> str | None:
    """What is wrong with shapes, indices or numbers of the arrays, None if nothing is."""
    sizes = {
        "V": len(head.template),
        "F": len(head.triangles),
        "U": len(head.uv),
        "K": len(head.identity_basis),
    }
    for name, symbols in _SHAPES.items():
        array = getattr(head, name)
        expected = tuple(sizes[s] if isinstance(s, str) else s for s in symbols)
        if array.shape != expected or 0 in expected:
            return f"{name} is {array.shape}, not {expected}"
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"{name} holds NaN or infinity"
    ends = {
        "triangles": sizes["V"],
        "uv_triangles": sizes["U"],
        "triangle_part": len(head.part_names),
        "landmark_vertices": sizes["V"],
        "landmark_region": len(head.region_names),
        "face320": 703,
        "ibug68": 703,
        "mirror_vertices": sizes["V"],
        "mirror_landmarks": 703,
    }
    for name, end in ends.items():
        array = getattr(head, name)
        if array.dtype.kind not in "iu" or array.min(initial=0) < 0 or array.max(initial=0) >= end:
            return f"{name} holds numbers that are no index below {end}"
    return None
