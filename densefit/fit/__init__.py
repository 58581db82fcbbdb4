"""The joint fit of one head to landmarks of all cameras and all frames."""

from densefit.fit.joint_fit import TakeLandmarks, fit, fit_offsets, fit_same_person
from densefit.fit.observations import Observations
from densefit.fit.options import FitOptions
from densefit.fit.result import FitResult

__all__ = [
    "FitOptions",
    "FitResult",
    "Observations",
    "TakeLandmarks",
    "fit",
    "fit_offsets",
    "fit_same_person",
]
