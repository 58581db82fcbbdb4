"""Cholesky factor of a block-tridiagonal matrix and what follows from it, linear in the blocks.

A = [D_1 O_1; O_1^T D_2 O_2; ...] = F F^T with F block lower bidiagonal: diagonal blocks L_t and
sub-diagonal blocks W_t^T, where W_t = L_t^-1 O_t and L_t+1 L_t+1^T = D_t+1 - W_t^T W_t.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

Tensor = torch.Tensor


@dataclass(frozen=True)
class Factor:
    """Blocks of the factor of a matrix with T blocks of size P."""

    lower: list[Tensor]
    """T blocks (P, P), lower triangular."""
    coupling: list[Tensor | None]
    """T - 1 blocks W_t (P, P); None where two neighbours are not coupled."""

    def to(self, dtype: torch.dtype) -> Factor:
        """The same factor in another precision."""
        return Factor(
            [x.to(dtype) for x in self.lower],
            [None if x is None else x.to(dtype) for x in self.coupling],
        )


class NotPositiveDefinite(ArithmeticError):
    """The matrix has no Cholesky factor: damp more."""


def factorize(diagonal: Tensor, link: Tensor, weights: Tensor, mask: Tensor) -> Factor:
    """Factor the matrix with diagonal blocks (T, P, P) and off-diagonal blocks -w_t m_t link m_t+1.

    Args:
        link: (P, P). weights: (T - 1,). mask: (T, P) diagonal matrices m_t of zeros and ones.
    """
    lower: list[Tensor] = []
    coupling: list[Tensor | None] = []
    blocks = diagonal.unbind(0)
    strength = weights.tolist()
    kept = mask.unbind(0)
    block = blocks[0]
    for t in range(len(blocks)):
        factor, info = torch.linalg.cholesky_ex(block)
        if int(info):
            raise NotPositiveDefinite
        lower.append(factor)
        if t + 1 == len(blocks):
            break
        if strength[t] == 0:
            coupling.append(None)
            block = blocks[t + 1]
            continue
        off = (kept[t] * -strength[t])[:, None] * link * kept[t + 1]
        solved = torch.linalg.solve_triangular(factor, off, upper=False)
        coupling.append(solved)
        block = torch.addmm(blocks[t + 1], solved.mT, solved, alpha=-1)
    return Factor(lower, coupling)


def forward(factor: Factor, right: Tensor) -> Tensor:
    """F^-1 b for b (T, P, m); b is overwritten."""
    for t, lower in enumerate(factor.lower):
        coupling = factor.coupling[t - 1] if t else None
        if coupling is not None:
            right[t].addmm_(coupling.mT, right[t - 1], alpha=-1)
        right[t] = torch.linalg.solve_triangular(lower, right[t], upper=False)
    return right


def backward(factor: Factor, right: Tensor) -> Tensor:
    """F^-T b for b (T, P, m); b is overwritten."""
    for t in range(len(factor.lower) - 1, -1, -1):
        coupling = factor.coupling[t] if t + 1 < len(factor.lower) else None
        if coupling is not None:
            right[t].addmm_(coupling, right[t + 1], alpha=-1)
        right[t] = torch.linalg.solve_triangular(factor.lower[t].mT, right[t], upper=True)
    return right


def inverse_diagonal(factor: Factor) -> Tensor:
    """Diagonals (T, P) of the diagonal blocks of the inverse.

    The recursion of Takahashi et al. (1973), backwards: C_t = L_t^-T (I + W_t C_t+1 W_t^T) L_t^-1.
    """
    out: list[Tensor] = []
    covariance: Tensor | None = None
    unit = torch.eye(
        len(factor.lower[0]), dtype=factor.lower[0].dtype, device=factor.lower[0].device
    )
    for t in range(len(factor.lower) - 1, -1, -1):
        inverse = torch.linalg.solve_triangular(factor.lower[t], unit, upper=False)
        coupling = factor.coupling[t] if t + 1 < len(factor.lower) else None
        if coupling is None or covariance is None:
            covariance = inverse.mT @ inverse
        else:
            bent = coupling.mT @ inverse
            covariance = inverse.mT @ inverse + bent.mT @ covariance @ bent
        out.append(covariance.diagonal())
    return torch.stack(out[::-1])


def multiply(diagonal: Tensor, link: Tensor, weights: Tensor, vector: Tensor) -> Tensor:
    """A v for v (T, P)."""
    out = (diagonal @ vector[..., None])[..., 0]
    if len(vector) > 1:
        linked = (vector @ link) * 1.0
        out[1:] -= weights[:, None] * linked[:-1]
        out[:-1] -= weights[:, None] * linked[1:]
    return out
