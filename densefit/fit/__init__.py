"""The joint fit of one head to landmarks of all cameras and all frames."""

from densefit.fit.observations import Observations
from densefit.fit.offsets import fit_offsets
from densefit.fit.options import FitOptions
from densefit.fit.result import FitResult
from densefit.fit.takes import TakeLandmarks, fit, fit_same_person

__all__ = [
    "FitOptions",
    "FitResult",
    "Observations",
    "TakeLandmarks",
    "fit",
    "fit_offsets",
    "fit_same_person",
]
