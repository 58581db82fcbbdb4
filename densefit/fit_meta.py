"""meta.json and sync.yaml: what a fit was made from, and with what."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration import Rig
from densefit.export.orientation import viewing_axes
from densefit.files import write_text
from densefit.fit_file import UNITS, FitFile

if TYPE_CHECKING:
    from densefit.capture import Take
    from densefit.fit.result import FitResult
    from densefit.head.model import HeadModel


def fit_meta(
    take: Take, head: HeadModel, result: FitResult, residual_px: np.ndarray, rig: Rig
) -> dict[str, Any]:
    names = list(take.sources)
    return {
        "model": {"name": head.name, "sha256": head.sha256},
        "landmarks_version": head.landmarks_version,
        "take": take.name,
        "cameras": names,
        "estimated_focal": [name for name in names if take.camera(name).K is None],
        "expression_names": list(head.expression_names),
        "units": UNITS,
        "scale": result.scale,
        "scale_std": float(result.scale_std),
        "fps": _fps(take, result.time),
        "up": (viewing_axes(rig)[0] + 0.0).tolist(),
        "independent_frames": take.independent_frames,
        "residual_px": {name: median(residual_px[:, c]) for c, name in enumerate(names)},
        "sigma_scale": {
            c.name: float(x) for c, x in zip(result.cameras, result.sigma_scale, strict=True)
        },
        "energy": float(result.energy),
        "iterations": int(result.iterations),
        "versions": _versions(),
    }


def identity_source(fit: FitFile) -> dict[str, Any]:
    """What meta.json says of an identity that was taken from an earlier `fit`.

    A fit that was itself given its identity passes on where that one came from.
    """
    stated = fit.meta.get("identity_source")
    return stated or {
        "fit": str(fit.path.absolute()),
        "take": fit.meta.get("take") or fit.path.absolute().parent.name,
        "scale": fit.meta["scale"],
        "scale_std": float(fit.meta.get("scale_std") or 0.0),
    }


def sizes_of_given_identity(meta: Mapping[str, Any]) -> str:
    """What the sizes of a head with the identity of an earlier take are; empty for other heads."""
    source = meta.get("identity_source")
    if not source:
        return ""
    shape = f"shape and size are those of take {source.get('take')}"
    if source.get("scale") == "calibrated":
        return f"{shape}, whose sizes were calibrated"
    deviation = source.get("scale_std")
    known = f" (give or take {deviation:.1%})" if isinstance(deviation, float) and deviation else ""
    return f"{shape}, whose sizes were estimates{known}"


def _fps(take: Take, seconds: np.ndarray) -> float:
    """Of the master timeline; independent pictures have no rate and are shown one a second."""
    if take.independent_frames or len(seconds) < 2:
        return 1.0
    step = float(np.median(np.diff(seconds)))
    return round(1 / step, 6) if step > 0 else 1.0


def _versions() -> dict[str, str]:
    import torch

    import densefit

    return {
        "densefit": densefit.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


def plain(value: Any) -> Any:
    """Options as JSON can hold them."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None


def write_sync(take: Take, out: Path) -> None:
    """out/sync.yaml in the words of take.yaml, where there is more than one clock."""
    if len(take.sources) < 2:
        return
    lines = ["# t_master = rate * t_camera + offset, seconds", "offsets:"]
    lines += [f"  {name}: {float(take.offsets.get(name, 0.0))!r}" for name in take.sources]
    lines += ["clock_rates:"]
    lines += [f"  {name}: {float(take.clock_rates.get(name, 1.0))!r}" for name in take.sources]
    write_text(out / "sync.yaml", "\n".join(lines) + "\n")
