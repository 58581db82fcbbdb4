"""Normal equations of cameras and board poses, solved by way of the Schur complement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class NormalEquations:
    """Normal equations: U over the cameras, V over each board pose, W between; right-hand sides."""

    U: np.ndarray
    V: np.ndarray
    W: np.ndarray
    g: np.ndarray
    h: np.ndarray

    def reduced(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The Schur complement, its right-hand side, and the inverted pose blocks."""
        diagonal = np.einsum("mii->mi", self.V)
        # A pose that nothing determines (all its corners dropped) must not make V singular.
        V = self.V + np.eye(6) * (damping * diagonal + 1e-12 * diagonal.max() + 1e-300)[:, None]
        inverse = np.linalg.inv(V)
        Y = self.W @ inverse
        S = self.U - np.tensordot(Y, self.W, axes=([0, 2], [0, 2]))
        S[np.diag_indices_from(S)] += damping * np.diag(self.U)
        return S, self.g - np.einsum("mpi,mi->p", Y, self.h), inverse

    def solve(self, damping: float) -> tuple[np.ndarray, np.ndarray]:
        """Steps of the cameras (P,) and of the board poses (M, 6)."""
        S, right, inverse = self.reduced(damping)
        camera_step = -_solve_scaled(S, right)
        back = self.h + np.einsum("mpi,p->mi", self.W, camera_step)
        return camera_step, -np.einsum("mij,mj->mi", inverse, back)


def _solve_scaled(S: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve with rows and columns scaled to a unit diagonal: pixels, radians and metres differ."""
    if len(right) == 0:
        return right
    scale = 1 / np.sqrt(np.maximum(np.diag(S), 1e-300))
    scaled = S * scale[:, None] * scale
    return scale * np.linalg.lstsq(scaled, right * scale, rcond=1e-13)[0]
