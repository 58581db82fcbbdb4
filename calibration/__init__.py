"""Cameras, lenses and rig files. Knows nothing of faces; densefit imports it, never the reverse."""

from calibration.camera import Camera
from calibration.errors import CalibrationError
from calibration.rig import Rig, read_rig, write_rig

__all__ = ["CalibrationError", "Camera", "Rig", "read_rig", "write_rig"]
