"""One damped Newton step with bounds on the expressions.

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
    passes: int = 3,
) -> Step:
    """Minimise the damped quadratic model inside the box.

    Args:
        damping: adds this multiple of its diagonal to the matrix.
        active: (T, P) first guess of the unknowns at a bound, from the step before.
    Raises:
        NotPositiveDefinite: more damping is needed.
    """
    size = system.diagonal.diagonal(dim1=1, dim2=2)
    added = damping_of(size, damping)
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
            system.diagonal, priors.link, priors.link_weights, added + stiffness
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


def damping_of(size: Tensor, damping: float) -> Tensor:
    """What to add to a diagonal (..., N): a multiple of itself, and a floor."""
    return damping * size + TINY * size.mean(-1, keepdim=True)


def damped(matrix: Tensor, damping: float) -> Tensor:
    """A border's matrix (N, N) with the same. Its unknowns are of many kinds: a floor that is small
    beside the curvature by a camera's angle would hold identity as strongly as its prior."""
    size = matrix.diagonal()
    floor = torch.where(size > 0, size, size.mean())
    return matrix + torch.diag(damping * size + TINY * floor)


def _solve_border(
    system: Linearization, factor: tridiagonal.Factor, alone: Tensor, damping: float
) -> tuple[Tensor, Tensor]:
    """Steps (T, P) of the frames and (N,) of the border from the Schur complement of the frames.

    Args:
        alone: (T, P) step of the frames if the border stood still.
    """
    cross = system.cross
    schur = damped(system.border, damping) - explained(factor, cross)
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
    whitened = tridiagonal.forward(factor, cross)
    return products(whitened, whitened)


def products(a: Tensor, b: Tensor) -> Tensor:
    """A^T B (N, M) float64 of rows (T, P, N) and (T, P, M)."""
    out = torch.zeros(a.shape[2], b.shape[2], dtype=torch.float64, device=a.device)
    for some, others in zip(_stacks(a), _stacks(b), strict=True):
        out += (some.T @ others).double()
    return out


def _stacks(blocks: Tensor) -> tuple[Tensor, ...]:
    return blocks.reshape(-1, blocks.shape[2]).split(STACK_ROWS)
