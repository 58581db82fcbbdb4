"""The surface that exports write: the model's own triangles, or those refined by `--subdivide`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from densefit.export.neck_cut import shown_triangles

if TYPE_CHECKING:
    from densefit.head.model import HeadModel
    from densefit.head.subdivide import Refinement


@dataclass(frozen=True)
class Surface:
    """Topology, texture coordinates and parts; vertices follow linearly from the model's."""

    triangles: np.ndarray
    """(F, 3) int32, counter-clockwise seen from outside."""
    uv: np.ndarray
    """(U, 2) float32, v counts from the bottom."""
    uv_triangles: np.ndarray
    """(F, 3) int32."""
    triangle_part: np.ndarray
    """(F,) uint8: index into part_names."""
    part_names: tuple[str, ...]
    refinement: Refinement | None
    """From the model's vertices; None: these are them."""
    n_vertices: int

    def refine(self, values: np.ndarray) -> np.ndarray:
        """Values at the model's vertices (..., V, D) -> at this surface's (..., V', D)."""
        return values if self.refinement is None else self.refinement.apply(values)


def surface_of(head: HeadModel, levels: int = 0) -> Surface:
    """The head's surface after `levels` of Catmull-Clark refinement."""
    shown = shown_triangles(head)
    if levels == 0:
        return Surface(
            triangles=head.triangles[shown],
            uv=head.uv,
            uv_triangles=head.uv_triangles[shown],
            triangle_part=head.triangle_part[shown],
            part_names=head.part_names,
            refinement=None,
            n_vertices=len(head.template),
        )
    from densefit.head.subdivide import subdivide

    fine = subdivide(
        head.triangles,
        head.uv_triangles,
        len(head.template),
        len(head.uv),
        levels=levels,
        part=head.triangle_part,
    )
    shown = shown[fine.source]
    return Surface(
        triangles=fine.triangles[shown],
        uv=fine.apply_uv(head.uv),
        uv_triangles=fine.uv_triangles[shown],
        triangle_part=head.triangle_part[fine.source[shown]],
        part_names=head.part_names,
        refinement=fine,
        n_vertices=fine.matrix.shape[0],
    )
