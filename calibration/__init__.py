"""Cameras, lenses and rig files. Knows nothing of faces; densefit imports it, never the reverse."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibration.camera import Camera
    from calibration.errors import CalibrationError
    from calibration.rig import Rig, read_rig, write_rig

__all__ = ["CalibrationError", "Camera", "Rig", "read_rig", "write_rig"]

_HOMES = {
    "CalibrationError": "errors", "Camera": "camera", "Rig": "rig", "read_rig": "rig",
    "write_rig": "rig",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """What is named above, from its module when it is first asked for.

    Rig files need yaml, but `calibration.atomic` serves trainings, which need torch and numpy only.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"calibration.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
