"""What the steps of a fit hand on to each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from densefit.fit.inverse import Deviations
from densefit.fit.noise import Inflation
from densefit.fit.priors import Told
from densefit.fit.solver import Solution
from densefit.fit.state import State
from densefit.fit.windows import LongSolution

Tensor = torch.Tensor


@dataclass(frozen=True)
class Start:
    """A joint solve of a take, or of its keyframes."""

    solution: Solution
    """Without E_distance: state and system that belong together, for the deviations."""
    state: State
    """With E_distance, and the motion of all frames: solved where `whole`, else first poses."""
    sigma_scale: Tensor
    """(C,)."""
    whole: bool
    picked: np.ndarray
    """Frames of the joint solve."""
    bias_lengths: Tensor | None = None
    """(L,), where the network's bias is solved for (`bias.py`)."""


@dataclass(frozen=True)
class Poses:
    """First poses of some frames, and how sure they are."""

    rotation: Tensor
    translation: Tensor
    score: Tensor


@dataclass(frozen=True)
class Begun:
    """What a finished joint solve leaves to the rest of the fit."""

    state: State
    """As `Start`'s."""
    sigma_scale: Tensor
    whole: bool
    spread: Deviations
    """Of the jointly solved frames."""
    inflation: Inflation | None
    energy: float
    iterations: int
    shot: np.ndarray
    placed: tuple[int, ...]
    told: Told | None = None
    """Where one camera alone sees the head."""
    bias_lengths: Tensor | None = None


def inflated(solved: LongSolution, inflation: Inflation | None) -> LongSolution:
    """A solution with the deviations that errors which go together give."""
    if inflation is None:
        return solved
    return replace(solved, spread=inflation.apply(solved.spread))
