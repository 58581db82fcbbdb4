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
FEW_CHANGES = 2e-3
"""Share of all unknowns whose bounds were guessed wrongly that is left to the next step."""
HOLD = 1e8
"""An unknown at a bound is held there by a spring this many times as stiff as its own curvature:
the factorization then needs no rows taken out."""


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
    size = system.diagonal.diagonal(dim1=1, dim2=2)
    damped = _damping(size, damping)
    gradient = system.gradient
    at_low, at_high = box.low >= 0, box.high <= 0
    pushed = at_low & (gradient > 0) | at_high & (gradient < 0)
    leaving = at_low & (gradient < 0) | at_high & (gradient > 0)
    kept = torch.zeros_like(pushed) if active is None else active & (at_low | at_high) & ~leaving
    active = pushed | kept
    target = torch.zeros_like(gradient)
    for attempt in range(passes):
        stiffness = held_stiffness(system.diagonal, active)
        factor = tridiagonal.factorize(
            system.diagonal, priors.link, priors.link_weights, damped + stiffness
        )
        right = stiffness * target - gradient
        step = tridiagonal.solve(factor, right)
        border_step = gradient.new_zeros(0)
        if system.cross.shape[2]:
            step, border_step = _solve_border(system, factor, step, damping)
        if attempt + 1 == passes:
            break
        # The spring that holds an unknown shows which way it is pulled: out of the bound, or in.
        inward = step - target
        released = (target <= box.low) & (inward > 0) | (target >= box.high) & (inward < 0)
        below, above = step < box.low, step > box.high
        wanted = active & ~released | ~active & (below | above)
        if int((wanted != active).sum()) <= FEW_CHANGES * active.numel():
            break
        fresh = torch.where(below, box.low, box.high)
        target = torch.where(wanted, torch.where(active, target, fresh), torch.zeros_like(target))
        active = wanted
    return Step(step.clamp(box.low, box.high), border_step, active)


def held_stiffness(blocks: Tensor, held: Tensor, hold: float = HOLD) -> Tensor:
    """(T, P): what to add to the diagonals of blocks (T, P, P) so that held unknowns stay."""
    return held * (hold * blocks.diagonal(dim1=1, dim2=2))


def _damping(size: Tensor, damping: float) -> Tensor:
    """What to add to a diagonal (..., N): a multiple of itself, and a floor."""
    return damping * size + TINY * size.mean(-1, keepdim=True)


def _damped(matrix: Tensor, damping: float) -> Tensor:
    return matrix + torch.diag(_damping(matrix.diagonal(), damping))


def _solve_border(
    system: Linearization, factor: tridiagonal.Factor, alone: Tensor, damping: float
) -> tuple[Tensor, Tensor]:
    """Steps (T, P) of the frames and (N,) of the border from the Schur complement of the frames.

    Args:
        alone: (T, P) step of the frames if the border stood still.
    """
    cross = system.cross
    schur = _damped(system.border, damping) - explained(factor, cross)
    target = -system.border_gradient - weighed(cross, alone)
    lower, info = torch.linalg.cholesky_ex(schur)
    if int(info):
        raise tridiagonal.NotPositiveDefinite
    step = torch.cholesky_solve(target[:, None], lower)[:, 0]
    follow = tridiagonal.solve(factor, (cross @ step.to(cross.dtype)).double())
    return alone - follow, step


def weighed(cross: Tensor, step: Tensor) -> Tensor:
    """X^T d (N,) float64 of cross blocks (T, P, N) and a step (T, P) of the frames."""
    return (cross.reshape(-1, cross.shape[2]).T @ step.reshape(-1).to(cross.dtype)).double()


def explained(factor: tridiagonal.Factor, cross: Tensor) -> Tensor:
    """X^T A^-1 X (N, N) float64: what eliminating the frames takes from the border."""
    return _gram(tridiagonal.forward(factor, cross).reshape(-1, cross.shape[2]))


def _gram(rows: Tensor) -> Tensor:
    """R^T R (N, N) float64 of rows (n, N)."""
    out = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64, device=rows.device)
    for part in rows.split(STACK_ROWS):
        out += (part.T @ part).double()
    return out


def solve_many(
    system: Linearization, priors: Priors, stiffness: Tensor, frames: Tensor, border: Tensor
) -> tuple[Tensor, Tensor]:
    """The inverse of the whole matrix times some columns: frames (T, P, m) and border (N, m).

    Where rounding leaves a direction without curvature, a little damping bounds it.

    Args:
        stiffness: (T, P), of held unknowns.
    """
    for damping in (0.0, 1e-6, 1e-4, 1e-2, 1.0):
        try:
            added = _damping(system.diagonal.diagonal(dim1=1, dim2=2), damping) + stiffness
            factor = tridiagonal.factorize(system.diagonal, priors.link, priors.link_weights, added)
            alone = tridiagonal.backward(factor, tridiagonal.forward(factor, frames))
            if not len(border):
                return alone, border
            cross = system.cross.double()
            schur = _damped(system.border, damping) - explained(factor, system.cross)
            lower, info = torch.linalg.cholesky_ex(schur)
            if int(info):
                raise tridiagonal.NotPositiveDefinite
            left = border - torch.einsum("tpn,tpm->nm", cross, alone)
            steps = torch.cholesky_solve(left, lower)
            follow = tridiagonal.forward(factor, cross @ steps)
            return alone - tridiagonal.backward(factor, follow), steps
        except tridiagonal.NotPositiveDefinite:
            if damping == 1.0:
                raise
    raise tridiagonal.NotPositiveDefinite


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
    added = _damping(system.diagonal.diagonal(dim1=1, dim2=2), damping)
    factor = tridiagonal.factorize(system.diagonal, priors.link, priors.link_weights, added)
    variance = tridiagonal.inverse_diagonal(factor)
    count = system.cross.shape[2]
    if not count:
        return Deviations(
            variance.clamp_min(0).sqrt(), variance.new_zeros(0), variance.new_zeros(0, 0)
        )
    whitened = tridiagonal.forward(factor, system.cross)
    schur = _damped(system.border, damping) - _gram(whitened.reshape(-1, count))
    lower, info = torch.linalg.cholesky_ex(schur)
    if int(info):
        raise tridiagonal.NotPositiveDefinite
    covariance = torch.cholesky_inverse(lower)
    border = covariance.diagonal()
    spread = tridiagonal.backward(factor, whitened)
    bent = torch.linalg.solve_triangular(lower, spread.reshape(-1, count).T.double(), upper=False)
    variance = variance + bent.square().sum(0).reshape(variance.shape)
    return Deviations(variance.clamp_min(0).sqrt(), border.clamp_min(0).sqrt(), covariance)
