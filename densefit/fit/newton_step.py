"""One damped Newton step with bounds on the expressions.

The step minimises the quadratic model inside the box by a primal-dual active set (Hintermueller,
Ito, Kunisch, SIAM J. Optim. 13, 2002): guess which unknowns stand at a bound, solve for the others,
correct the guess from the signs of steps and multipliers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from densefit.fit import tridiagonal
from densefit.fit.linearization import Linearization
from densefit.fit.priors import Priors
from densefit.fit.products import symmetric_products

Tensor = torch.Tensor
TINY = 1e-8
"""Added to diagonals relative to their mean: an unknown that nothing depends on stays where it
is."""
FEW_CHANGES = 2e-3
"""Share of all unknowns whose bounds were guessed wrongly that is left to the next step."""
CLOSE_ENOUGH, MAX_GRADIENTS = 1e-4, 60
"""Relative error of a step of the border by conjugate gradients, and most of their iterations."""
OTHERWISE = 0.3
"""Share of all unknowns whose bounds are guessed otherwise than for a factor that no longer helps:
conjugate gradients take thirty iterations from there."""
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
    frame_damping: Tensor | None = None,
) -> Step:
    """Minimise the damped quadratic model inside the box.

    Args:
        damping: adds this multiple of its diagonal to the matrix.
        frame_damping: (T,) for each frame's unknowns, where it is another.
        active: (T, P) first guess of the unknowns at a bound, from the step before.
    Raises:
        NotPositiveDefinite: more damping is needed.
    """
    size = system.diagonal.diagonal(dim1=1, dim2=2)
    added = damping_of(size, damping if frame_damping is None else frame_damping[:, None])
    gradient = system.gradient
    at_low, at_high = box.low >= 0, box.high <= 0
    pushed = at_low & (gradient > 0) | at_high & (gradient < 0)
    leaving = at_low & (gradient < 0) | at_high & (gradient > 0)
    kept = torch.zeros_like(pushed) if active is None else active & (at_low | at_high) & ~leaving
    active = pushed | kept
    target = torch.zeros_like(gradient)
    schur, factored = None, active
    for attempt in range(passes):
        stiffness = held_stiffness(system.diagonal, active)
        factor = tridiagonal.factorize(
            system.diagonal, priors.link, priors.link_weights, added + stiffness
        )
        right = stiffness * target - gradient
        step = tridiagonal.solve(factor, right)
        border_step = gradient.new_zeros(0)
        if system.cross.shape[2]:
            if float((active != factored).sum()) > OTHERWISE * active.numel():
                schur = None
            schur = SchurComplement.of(system, damping, factor, schur)
            factored = active if schur.exact else factored
            border_step = schur.solve(-system.border_gradient - weighed(system.cross, step))
            step = step - schur.followed(border_step)
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


def damping_of(size: Tensor, damping: float | Tensor) -> Tensor:
    """What to add to a diagonal (..., N): a multiple (or multiples, (..., 1)) of itself, and a
    floor."""
    return damping * size + TINY * size.mean(-1, keepdim=True)


def damped(matrix: Tensor, damping: float) -> Tensor:
    """A border's matrix (N, N) with the same. Its unknowns are of many kinds: a floor that is small
    beside the curvature by a camera's angle would hold identity as strongly as its prior."""
    size = matrix.diagonal()
    floor = torch.where(size > 0, size, size.mean())
    return matrix + torch.diag(damping * size + TINY * floor)


@dataclass(frozen=True)
class SchurComplement:
    """S = B - X^T A^-1 X of the border, the frames eliminated, and how to solve with it."""

    cross: Tensor
    """X (T, P, N)."""
    border: Tensor
    """B (N, N), damped."""
    factor: tridiagonal.Factor
    """Of A."""
    lower: Tensor
    """(N, N): Cholesky factor of S, or of an S in which other unknowns stood at their bounds."""
    exact: bool

    @staticmethod
    def of(
        system: Linearization,
        damping: float,
        factor: tridiagonal.Factor,
        near: SchurComplement | None = None,
    ) -> SchurComplement:
        """Factorized, or with the factor of one that is near."""
        border = damped(system.border, damping)
        if near is not None:
            return SchurComplement(system.cross, border, factor, near.lower, False)
        lower = _cholesky(border - explained(factor, system.cross))
        return SchurComplement(system.cross, border, factor, lower, True)

    def followed(self, step: Tensor) -> Tensor:
        """A^-1 X b (T, P): what a step b (N,) of the border takes from the frames."""
        pulled = (self.cross @ step.to(self.cross.dtype)).double()
        return tridiagonal.solve(self.factor, pulled)

    def solve(self, right: Tensor) -> Tensor:
        """S^-1 b (N,): by the factor, or by conjugate gradients from there, which take a few passes
        over X where a factor of its own takes N of them."""
        if self.exact:
            return _by_factor(self.lower, right)
        out, rest = torch.zeros_like(right), right
        way, size = out, math.inf
        goal = CLOSE_ENOUGH**2 * float(right @ _by_factor(self.lower, right))
        for _ in range(MAX_GRADIENTS):
            towards = _by_factor(self.lower, rest)
            before, size = size, float(rest @ towards)
            if size <= goal:
                return out
            way = towards + (size / before) * way
            bent = self.border @ way - weighed(self.cross, self.followed(way))
            curvature = float(way @ bent)
            if not curvature > 0:
                break
            length = size / curvature
            out, rest = out + length * way, rest - length * bent
        return _by_factor(_cholesky(self.border - explained(self.factor, self.cross)), right)


def _cholesky(matrix: Tensor) -> Tensor:
    lower, info = torch.linalg.cholesky_ex(matrix)
    if int(info):
        raise tridiagonal.NotPositiveDefinite
    return lower


def _by_factor(lower: Tensor, right: Tensor) -> Tensor:
    return torch.cholesky_solve(right[:, None], lower)[:, 0]


def weighed(cross: Tensor, step: Tensor) -> Tensor:
    """X^T d (N,) float64 of cross blocks (T, P, N) and a step (T, P) of the frames."""
    return (cross.reshape(-1, cross.shape[2]).T @ step.reshape(-1).to(cross.dtype)).double()


def explained(factor: tridiagonal.Factor, cross: Tensor) -> Tensor:
    """X^T A^-1 X (N, N) float64: what eliminating the frames takes from the border."""
    whitened = tridiagonal.forward(factor, cross)
    return symmetric_products(whitened, whitened)
