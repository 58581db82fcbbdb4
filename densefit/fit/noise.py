"""Deviations of a fit whose landmarks err together.

A network's errors are far from independent: most of their variance lies in a few dozen directions
(a face seen a little too wide, a mouth a little too open), and cameras that look at one face share
them: on renders from three views nine tenths of the errors' variance is that of one displacement of
each landmark in the head frame. To the fit they look like shape and motion, and more cameras do not
average them out. So an error is modelled as

    A d + own,    d = s G z,    z ~ N(0, I)

with A the projection's Jacobian, s the landmark's sigma as a length, G as measured on renders that
no network was trained on (benchmarks/landmark_noise.py), and a rest that is each picture's own. The
minimum then scatters about the truth with

    H^-1 M H^-1,    M = sum over frames of (J^T W A d) (J^T W A d)^T + own + P

(the sandwich of Godambe and Huber; H the matrix of the energy, J the landmarks' Jacobian, W their
weights, P the priors' precision: parameters are drawn from the priors). M has the blocks of H, and
the diagonal of the product is a derivative of that of an inverse,

    d/de diag (H + e M)^-1 = -diag H^-1 M H^-1   at e = 0,

so that two more factorizations give it. A person's pictures share errors, too: of the factor's
variance a measured part is that of one z for the whole take (`shared`), which no number of frames
averages out. It adds the squares of H^-1 sum over frames of J^T W A s G. Expressions that stand at
a bound follow no error: H and M are those of the others. What is stated of such an expression is
what it would be without the bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from densefit.fit.inverse import Deviations, Inverse, ScoreCovariance
from densefit.fit.linearization import Linearization
from densefit.fit.newton_step import held_stiffness
from densefit.fit.options import FitOptions
from densefit.fit.priors import Priors
from densefit.fit.state import FrameLayout

Tensor = torch.Tensor

FILE = Path(__file__).with_name("noise.npz")
ABSORBED = 0.76
"""Share of the errors' variance that a fit follows, so that residuals do not show it: what is alike
in all views looks like shape and motion to any number of cameras. Measured on takes drawn from the
priors with these errors (`benchmarks/deviations.py --first 1000`; other seeds test it): residuals
there are 0.27 of the errors, and with 0.24 the stated deviations are right."""
EXPRESSIONS_MORE, IDENTITY_MORE = 1.13, 1.06
"""Both scatter by so much more than the linear formula says, which holds expressions still that
stand at a bound (measured on the same takes)."""
EXPRESSIONS_ALONE, ROTATION_ALONE, TRANSLATION_ALONE = 1.36, 1.12, 1.75
"""The same where one camera alone sees the head: what moves towards it is most probably at rest,
and is not; and shape and distance depend on one another (measured with `--cameras 1`)."""
STEP = 0.02
"""e of `Inverse.sandwich`, over the size of M against H."""
HOLD = 1e4
"""As in `newton_step`, but no stiffer than inverses of the whole matrix bear."""


@dataclass(frozen=True)
class NoiseModel:
    """Covariance of standardised errors: mean variance one along an axis of a picture."""

    factor: Tensor
    """(L, 3, r): displacements in the head frame, alike in all cameras."""
    rest: float
    """Mean variance that the factor leaves: each picture's own."""
    shared: float = 0.0
    """Part of the factor's variance that all pictures of a take have in common."""


@dataclass(frozen=True)
class Inflation:
    """By how much deviations exceed those of independent errors."""

    frames: Tensor
    """(P,), median over the frames."""
    border: Tensor
    """(N,)."""
    shared: Tensor
    """(N,): part of the border's variance that more frames do not lessen."""
    count: int
    """Frames it was found with."""

    @staticmethod
    def of(noisy: NoisyDeviations, plain: Deviations) -> Inflation:
        """From one system both ways: windows ignore bounds in the frames' own deviations, and hold
        expressions at them in the border's."""
        frames = (noisy.frames / plain.frames.clamp_min(1e-300)).median(0).values
        border = noisy.border / noisy.alone.clamp_min(1e-300)
        return Inflation(frames, border, noisy.shared, len(noisy.frames))

    def apply(self, plain: Deviations) -> Deviations:
        """Of other frames of the same take, or of more of them."""
        some = slice(0, len(plain.border))
        growth = max(1.0, len(plain.frames) / self.count)
        border = self.border[some] * (1 + (growth - 1) * self.shared[some]).sqrt()
        covariance = torch.outer(border, border) * plain.border_covariance
        return Deviations(plain.frames * self.frames, plain.border * border, covariance)


@dataclass(frozen=True)
class NoisyDeviations(Deviations):
    """Standard deviations where errors go together."""

    shared: Tensor
    """(N,): part of the border's variance that comes from errors common to all frames."""
    alone: Tensor
    """(N,): the border's if errors were independent, expressions at a bound held as well."""


@cache
def shipped_noise() -> NoiseModel:
    """As measured with the shipped network."""
    with np.load(FILE, allow_pickle=False) as arrays:
        return NoiseModel(
            torch.tensor(arrays["factor"].astype(np.float64)),
            float(arrays["rest"].astype(np.float64).mean()),
            float(arrays["shared"]),
        )


def noise_model(landmarks: int, options: FitOptions) -> NoiseModel | None:
    """The shipped model, or None: another head's landmarks, or errors said to be independent
    (`correlation` 1)."""
    if options.correlation == 1.0:
        return None
    model = shipped_noise()
    return model if len(model.factor) == landmarks else None


def error_level(residual: Tensor) -> Tensor:
    """Deviation (C,) of the errors from that of the residuals, both over sigma."""
    return residual.nan_to_num(1.0) / (1 - ABSORBED) ** 0.5


def noisy_deviations(
    system: Linearization,
    priors: Priors,
    score: ScoreCovariance,
    held: Tensor,
    plain: Deviations,
) -> NoisyDeviations:
    """Standard deviations of all unknowns where errors go together.

    Args:
        system: the linearization at the minimum.
        held: (T, P) bool: unknowns at a bound.
        plain: of the same system, errors independent.
    """
    size = float(
        (score.diagonal.diagonal(dim1=1, dim2=2) / system.diagonal.diagonal(dim1=1, dim2=2)).max()
    )
    step = STEP / max(1.0, size)
    inverse = Inverse.of(system, priors, held_stiffness(system.diagonal, held, HOLD))
    own_frames, own_border = inverse.sandwich(score, step)
    frames, border = inverse.columns(score.shared_frames, score.shared_border)
    if system.dolly is not None:
        frames = frames + system.dolly.shift[..., None] * border[-1]
    variance = own_frames.clamp_min(0) + frames.square().sum(2)
    covariance = own_border + border @ border.mT
    border_variance = own_border.diagonal().clamp_min(0) + border.square().sum(1)
    frame_std = torch.where(variance > 0, variance.sqrt(), plain.frames)
    ratio = _typical_ratio(frame_std / plain.frames, held)
    return NoisyDeviations(
        torch.where(held, ratio * plain.frames, frame_std),
        torch.where(border_variance > 0, border_variance.sqrt(), plain.border),
        covariance,
        border.square().sum(1) / border_variance.clamp_min(1e-300),
        torch.cholesky_inverse(inverse.lower).diagonal().clamp_min(0).sqrt(),
    )


def excess(
    layout: FrameLayout, border: int, shapes: int, alone: bool, cameras: int
) -> tuple[Tensor, Tensor]:
    """By how much the unknowns of a frame (P,) and of the border (N,) scatter more than the linear
    formula says.

    Args:
        border: N. shapes: modes of identity, the first unknowns of the border.
        alone: one camera sees the head, whose identity is unknown.
        cameras: unknowns of the cameras; with some, where the head is hangs on those above all.
    """
    frames = torch.ones(layout.size, dtype=torch.float64)
    frames[layout.expression] = EXPRESSIONS_ALONE if alone else EXPRESSIONS_MORE
    if alone:
        frames[layout.rotation] = ROTATION_ALONE
        if not cameras:
            frames[layout.translation] = TRANSLATION_ALONE
    more = torch.ones(border, dtype=torch.float64)
    more[:shapes] = IDENTITY_MORE
    return frames, more


def scattered_more(found: NoisyDeviations, frames: Tensor, border: Tensor) -> NoisyDeviations:
    """The same times factors (P,) and (N,)."""
    covariance = torch.outer(border, border) * found.border_covariance
    return replace(
        found, frames=frames * found.frames, border=border * found.border,
        border_covariance=covariance,
    )  # fmt: skip


def _typical_ratio(ratio: Tensor, held: Tensor) -> Tensor:
    """(P,): medians over the frames (T, P) in which an unknown is not held; where it always is,
    the median of all."""
    free = torch.where(held, torch.nan, ratio)
    own = free.nanmedian(0).values
    return torch.where(own.isnan(), free.nanmedian(), own)
