"""One damped Newton step with bounds on the expressions, and the deviations at the minimum.

The step minimises the quadratic model inside the box by a primal-dual active set (Hintermueller,
Ito, Kunisch, SIAM J. Optim. 13, 2002): guess which unknowns stand at a bound, solve for the others,
correct the guess from the signs of steps and multipliers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from densefit.fit import tridiagonal
from densefit.fit.linearization import Linearization
from densefit.fit.priors import Priors

Tensor = torch.Tensor
TINY = 1e-8
"""Added to diagonals relative to their mean: an unknown that nothing depends on stays where it
is."""
STACK_ROWS = 8192


@dataclass(frozen=True)
class Box:
    """Bounds of the step, (T, P) each; infinite where there is none."""

    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class Step:
    """A step of all unknowns."""

    frames: Tensor
    """(T, P)."""
    border: Tensor
    """(N,)."""
    active: Tensor
    """(T, P) bool: at a bound."""


def solve_step(
    system: Linearization,
    priors: Priors,
    box: Box,
    damping: float,
    active: Tensor | None,
    passes: int = 2,
) -> Step:
    """Minimise the damped quadratic model inside the box.

    Args:
        damping: adds this multiple of its diagonal to the matrix.
        active: (T, P) first guess of the unknowns at a bound, from the step before.
    Raises:
        NotPositiveDefinite: more damping is needed.
    """
    diagonal = _damped(system.diagonal, damping)
    gradient = system.gradient
    at_bound = (box.low >= 0) & (gradient > 0) | (box.high <= 0) & (gradient < 0)
    active = (
        at_bound
        if active is None
        else at_bound | active & ((box.low >= 0) | (box.high <= 0)) & ~_leaving(box, gradient)
    )
    fixed = torch.zeros_like(gradient)
    count = system.cross.shape[2]
    border_step = torch.zeros(count, dtype=torch.float64, device=gradient.device)
    step = fixed
    for attempt in range(passes):
        keep = (~active).double()
        right = (
            -(gradient + tridiagonal.multiply(diagonal, priors.link, priors.link_weights, fixed))
            * keep
        )
        blocks = keep[:, :, None] * diagonal * keep[:, None, :]
        blocks.diagonal(dim1=1, dim2=2).add_(1 - keep)
        factor = tridiagonal.factorize(blocks, priors.link, priors.link_weights, keep)
        if count:
            half, border_step = _solve_border(system, factor, keep, fixed, right, damping)
        else:
            half = tridiagonal.forward(factor, right[..., None].clone())
        step = tridiagonal.backward(factor, half)[..., 0] * keep + fixed
        if attempt + 1 == passes:
            break
        slope = gradient + tridiagonal.multiply(diagonal, priors.link, priors.link_weights, step)
        if count:
            slope = slope + (system.cross @ border_step.to(system.cross.dtype)).double()
        released = (fixed <= box.low) & (slope < 0) | (fixed >= box.high) & (slope > 0)
        below, above = step < box.low, step > box.high
        wanted = active & ~released | below | above
        if torch.equal(wanted, active):
            break
        fresh = torch.where(below, box.low, box.high)
        fixed = torch.where(wanted, torch.where(active, fixed, fresh), torch.zeros_like(fixed))
        active = wanted
    return Step(step.clamp(box.low, box.high), border_step, active)


def _leaving(box: Box, gradient: Tensor) -> Tensor:
    return (box.low >= 0) & (gradient < 0) | (box.high <= 0) & (gradient > 0)


def _damped(blocks: Tensor, damping: float) -> Tensor:
    out = blocks.clone()
    diagonal = out.diagonal(dim1=-2, dim2=-1)
    floor = TINY * diagonal.mean(-1, keepdim=True)
    diagonal.mul_(1 + damping).add_(floor)
    return out


def _solve_border(
    system: Linearization,
    factor: tridiagonal.Factor,
    keep: Tensor,
    fixed: Tensor,
    right: Tensor,
    damping: float,
) -> tuple[Tensor, Tensor]:
    """Schur complement of the frames: F^-1 of the frames' right side, and the border's step."""
    cross = system.cross
    whitened = _whiten(factor, cross, keep)
    half = tridiagonal.forward(factor, right[..., None].clone())
    schur = _damped(system.border, damping)
    target = (
        -system.border_gradient
        - (cross.reshape(-1, cross.shape[2]).T @ fixed.reshape(-1).to(cross.dtype)).double()
    )
    schur, target = _reduce(schur, target, whitened, half)
    lower, info = torch.linalg.cholesky_ex(schur)
    if int(info):
        raise tridiagonal.NotPositiveDefinite
    step = torch.cholesky_solve(target[:, None], lower)[:, 0]
    return half - (whitened @ step.to(whitened.dtype)).double()[..., None], step


def _whiten(factor: tridiagonal.Factor, cross: Tensor, keep: Tensor) -> Tensor:
    return tridiagonal.forward(factor.to(cross.dtype), cross * keep[:, :, None].to(cross.dtype))


def _reduce(schur: Tensor, target: Tensor, whitened: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    rows = whitened.reshape(-1, whitened.shape[2])
    column = half.reshape(-1).to(rows.dtype)
    for start in range(0, len(rows), STACK_ROWS):
        part = rows[start : start + STACK_ROWS]
        schur = schur - (part.T @ part).double()
        target = target - (part.T @ column[start : start + STACK_ROWS]).double()
    return schur, target


@dataclass(frozen=True)
class Deviations:
    """Posterior standard deviations of all unknowns (Laplace's approximation, bounds ignored)."""

    frames: Tensor
    """(T, P)."""
    border: Tensor
    """(N,)."""
    border_covariance: Tensor
    """(N, N)."""


def deviations(system: Linearization, priors: Priors) -> Deviations:
    """Square roots of the diagonal of the inverse of the whole matrix.

    Where rounding leaves a direction without curvature, a little damping bounds its deviation.
    """
    for damping in (0.0, 1e-6, 1e-4, 1e-2):
        try:
            return _deviations(system, priors, damping)
        except tridiagonal.NotPositiveDefinite:
            continue
    return _deviations(system, priors, 1.0)


def _deviations(system: Linearization, priors: Priors, damping: float) -> Deviations:
    diagonal = _damped(system.diagonal, damping)
    keep = torch.ones_like(system.gradient)
    factor = tridiagonal.factorize(diagonal, priors.link, priors.link_weights, keep)
    variance = tridiagonal.inverse_diagonal(factor)
    count = system.cross.shape[2]
    if not count:
        return Deviations(
            variance.clamp_min(0).sqrt(), variance.new_zeros(0), variance.new_zeros(0, 0)
        )
    whitened = _whiten(factor, system.cross, keep)
    zero = torch.zeros_like(system.gradient)[..., None]
    schur, _ = _reduce(_damped(system.border, damping), system.border_gradient, whitened, zero)
    lower, info = torch.linalg.cholesky_ex(schur)
    if int(info):
        raise tridiagonal.NotPositiveDefinite
    covariance = torch.cholesky_inverse(lower)
    border = covariance.diagonal()
    spread = tridiagonal.backward(factor.to(whitened.dtype), whitened)
    bent = torch.linalg.solve_triangular(lower, spread.reshape(-1, count).T.double(), upper=False)
    variance = variance + bent.square().sum(0).reshape(variance.shape)
    return Deviations(variance.clamp_min(0).sqrt(), border.clamp_min(0).sqrt(), covariance)
