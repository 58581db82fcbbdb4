"""`out/fit.npz` with its `meta.json`: the one result of a fit, and the one input of every export.

Formats are those of docs/formats.md. Reading checks everything that a later step relies on
(names, shapes,
finite values, the head model), so that exporters can use the arrays without checking again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.camera import NAME_PATTERN
from densefit.errors import InputError
from densefit.files import read_json, read_npz, write_json, write_npz

if TYPE_CHECKING:
    from densefit.head.model import HeadModel

FORMAT = "densefit fit"
"""What meta.json calls itself."""
META_VERSION = 1
UNITS = {"length": "m", "angle": "rad", "time": "s", "residual": "px"}
META_KEYS = ("model", "landmarks_version", "cameras", "expression_names", "units", "scale")
# Where they are there.
META_KINDS: dict[str, type | tuple[type, ...]] = {
    "scale": str, "take": str, "fps": (int, float), "scale_std": (int, float), "up": list,
    "inputs": dict, "options": dict, "versions": dict, "independent_frames": bool,
    "identity_source": dict, "estimated_focal": list,
}  # fmt: skip

# Symbolic shapes: T master frames, K identity coefficients, C cameras, E expressions.
SHAPES: dict[str, tuple[str | int, ...]] = {
    "identity": ("K",),
    "expression": ("T", "E"),
    "rotation": ("T", 3),
    "translation": ("T", 3),
    "joints": ("T", 4, 3),
    "time": ("T",),
    "valid": ("T",),
    "residual_px": ("T", "C"),
    "identity_std": ("K",),
    "expression_std": ("T", "E"),
    "rotation_std": ("T", 3),
    "translation_std": ("T", 3),
    "joints_std": ("T", 4, 3),
}


@dataclass(frozen=True)
class FitFile:
    """One identity and T frames of expression and pose, as read from fit.npz; all arrays checked.

    Metres, radians, seconds; X_world = R(rotation) X_head + translation.
    """

    identity: np.ndarray  # (K,) float64, standard deviations of the prior
    expression: np.ndarray  # (T, 52) float64, ARKit order; NaN where there is no head
    rotation: np.ndarray  # (T, 3) float64, axis-angle, rad
    translation: np.ndarray  # (T, 3) float64, m
    joints: np.ndarray  # (T, 4, 3) float64, axis-angle of neck, head, left eye, right eye, rad
    time: np.ndarray  # (T,) float64, s, master clock
    valid: np.ndarray  # (T,) bool, at least one camera saw the head
    residual_px: np.ndarray  # (T, C) float64, px, NaN where unseen
    identity_std: np.ndarray  # (K,)
    expression_std: np.ndarray  # (T, 52)
    rotation_std: np.ndarray  # (T, 3)
    translation_std: np.ndarray  # (T, 3)
    joints_std: np.ndarray  # (T, 4, 3)
    meta: dict[str, Any]
    path: Path

    @property
    def n_frames(self) -> int:
        return len(self.time)

    @property
    def posed(self) -> np.ndarray:
        """(T,) bool: the frame has a head, observed or kept inside a short gap."""
        return posed_frames(self.expression, self.rotation, self.translation, self.joints)

    @property
    def fps(self) -> float:
        """Nominal frames per second of the master timeline; 1 for a single frame."""
        stated = self.meta.get("fps")
        if isinstance(stated, int | float) and 0 < stated < 1e6:
            return float(stated)
        steps = np.diff(self.time)
        return float(1.0 / np.median(steps)) if len(steps) and np.median(steps) > 0 else 1.0

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything in fit.npz, by name."""
        return {name: getattr(self, name) for name in SHAPES}


def posed_frames(*arrays: np.ndarray) -> np.ndarray:
    """(T,) bool: all of the arrays (T, ...) are finite there, so the frame has a head."""
    return np.logical_and.reduce([np.isfinite(a.reshape(len(a), -1)).all(axis=1) for a in arrays])


def fit_paths(path: Path) -> tuple[Path, Path]:
    """fit.npz and meta.json of an output folder, or of a fit.npz given directly."""
    path = Path(path)
    fit = path if path.suffix == ".npz" else path / "fit.npz"
    return fit, fit.with_name("meta.json")


def write_fit(out: Path, result: Any, meta: Mapping[str, Any]) -> Path:
    """Write out/fit.npz and out/meta.json.

    `result` carries the arrays of SHAPES as attributes (densefit.fit.FitResult does). meta.json
    goes first:
    fit.npz marks the fit as finished, so it must never stand without its description.
    """
    fit_path, meta_path = fit_paths(out)
    arrays = {name: _stored(name, getattr(result, name)) for name in SHAPES}
    write_json(meta_path, {"format": FORMAT, "format_version": META_VERSION, **meta})
    write_npz(fit_path, **arrays)
    return fit_path


def read_fit(path: Path, head: HeadModel | None = None) -> FitFile:
    """Read and check a fit.

    Args:
        path: an output folder of `densefit fit-rig`, or its fit.npz.
        head: the head model the caller will use; compared with the model named in meta.json.
    Raises:
        InputError: missing, damaged, inconsistent, or made with another head model.
    """
    fit_path, meta_path = fit_paths(path)
    if not fit_path.is_file():
        if Path(path).is_file():
            raise InputError(f"{path}: no fit; give fit.npz or the output folder that holds it")
        raise InputError(
            f"{fit_path}: no fit here; run `densefit fit-rig TAKE -o {fit_path.parent}` first"
        )
    meta = _read_meta(meta_path)
    arrays = read_npz(fit_path)
    missing = [name for name in SHAPES if name not in arrays]
    if missing:
        raise InputError(
            f"{fit_path}: {', '.join(missing)} missing; the file is damaged, fit again with "
            f"--overwrite"
        )
    arrays = {name: _loaded(fit_path, name, arrays[name]) for name in SHAPES}
    _check_shapes(fit_path, arrays, meta)
    fit = FitFile(**arrays, meta=meta, path=fit_path)
    _check_values(fit)
    if head is not None:
        check_model(fit, head)
    return fit


def check_model(fit: FitFile, head: HeadModel) -> None:
    """Raise InputError unless `fit` was made with `head`: another basis gives another face."""
    stated = fit.meta["model"]
    if stated.get("sha256") != head.sha256:
        raise InputError(
            f"{fit.path}: fitted with head model {stated.get('name')} "
            f"({str(stated.get('sha256'))[:12]}), but "
            f"{head.name} ({head.sha256[:12]}) is loaded; give that model or fit again with "
            f"--overwrite"
        )
    if len(fit.identity) != len(head.identity_basis):
        raise InputError(
            f"{fit.path}: {len(fit.identity)} identity coefficients, the model {head.name} has "
            f"{len(head.identity_basis)}; the file is damaged, fit again with --overwrite"
        )


def _stored(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if name == "valid":
        return array.astype(bool)
    return array.astype(np.float64 if name in ("time", "rotation", "translation") else np.float32)


def _loaded(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    kinds = "b" if name == "valid" else "fiu"
    if array.dtype.kind not in kinds:
        raise InputError(
            f"{path}: {name} has type {array.dtype}; the file is damaged, fit again with "
            f"--overwrite"
        )
    return array.astype(bool if name == "valid" else np.float64)


def _read_meta(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(
            f"{path}: missing beside fit.npz; copy it from where the fit was made or fit again"
        )
    meta = read_json(path)
    missing = [key for key in META_KEYS if not isinstance(meta, dict) or key not in meta]
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} missing; fit again with --overwrite")
    _check_meta(path, meta)
    return meta


def _check_meta(path: Path, meta: dict[str, Any]) -> None:
    """InputError where a value is not what whoever uses it relies on."""
    if not isinstance(meta["model"], dict):
        raise InputError(
            f"{path}: model must be a mapping with name and sha256; fit again with --overwrite"
        )
    for key in ("cameras", "expression_names"):
        names = meta[key]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{path}: {key} must be a list of names; fit again with --overwrite")
    for name in meta["cameras"]:
        if not NAME_PATTERN.fullmatch(name):
            raise InputError(f"{path}: {name!r:.60} names no camera; fit again with --overwrite")
    for key, kinds in META_KINDS.items():
        if meta.get(key) is not None and not isinstance(meta[key], kinds):
            raise InputError(f"{path}: {key} is {meta[key]!r:.60}; fit again with --overwrite")
    if meta["scale"] not in ("calibrated", "prior"):
        raise InputError(f"{path}: scale must be calibrated or prior; fit again with --overwrite")
    up = meta.get("up")
    if up is not None and not (len(up) == 3 and all(isinstance(x, int | float) for x in up)):
        raise InputError(f"{path}: up must be three numbers; fit again with --overwrite")


def _check_shapes(path: Path, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    sizes: dict[str, int] = {"C": len(meta["cameras"]), "E": len(meta["expression_names"])}
    if arrays["identity"].ndim == 1:
        sizes["K"] = len(arrays["identity"])
    if arrays["time"].ndim == 1:
        sizes["T"] = len(arrays["time"])
    for name, symbols in SHAPES.items():
        expected = tuple(sizes.get(s, -1) if isinstance(s, str) else s for s in symbols)
        if arrays[name].shape != expected:
            raise InputError(
                f"{path}: {name} has shape {arrays[name].shape}, expected {expected}; fit.npz "
                f"and meta.json do not "
                "belong together or are damaged, fit again with --overwrite"
            )


def _check_values(fit: FitFile) -> None:
    if not np.isfinite(fit.identity).all() or not np.isfinite(fit.time).all():
        raise InputError(f"{fit.path}: identity or time is not finite; fit again with --overwrite")
    if (np.diff(fit.time) < 0).any():
        frame = int(np.argmax(np.diff(fit.time) < 0)) + 1
        raise InputError(
            f"{fit.path}: time runs backwards at frame {frame}; fit again with --overwrite"
        )
    broken = fit.valid & ~fit.posed
    if broken.any():
        raise InputError(
            f"{fit.path}: frame {int(np.argmax(broken))} is marked valid but not finite; fit "
            f"again with --overwrite"
        )


assert {f.name for f in fields(FitFile)} == {*SHAPES, "meta", "path"}
