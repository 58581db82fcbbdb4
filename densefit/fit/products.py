"""Sums over frames of products of rows, in float64 whatever the rows are."""

from __future__ import annotations

from collections.abc import Iterator

import torch

Tensor = torch.Tensor
STACK_ROWS = 8192
"""Rows of which the products are summed in their own precision."""
SYMMETRIC_BLOCKS = 4
"""Parts of the columns of a matrix of which only the lower half is computed."""


def products(a: Tensor, b: Tensor) -> Tensor:
    """A^T B (N, M) float64 of rows (T, P, N) and (T, P, M)."""
    out = torch.zeros(a.shape[2], b.shape[2], dtype=torch.float64, device=a.device)
    for some, others in _stacks(a, b):
        out += some.T @ others
    return out


def symmetric_products(a: Tensor, b: Tensor) -> Tensor:
    """A^T B (N, N) float64 that is known to be symmetric, of rows (T, P, N): five eighths of the
    work of `products`."""
    size = a.shape[2]
    width = max(1, -(-size // SYMMETRIC_BLOCKS))
    out = torch.zeros(size, size, dtype=torch.float64, device=a.device)
    for some, others in _stacks(a, b):
        for low in range(0, size, width):
            out[low:, low : low + width] += some[:, low:].T @ others[:, low : low + width]
    return out.tril() + out.tril(-1).T


def _stacks(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    rows = [x.reshape(-1, x.shape[2]).split(STACK_ROWS) for x in (a, b)]
    return zip(*rows, strict=True)
