"""Landmarks of the lips: borders, middles, and the seam where upper and lower lip meet."""

from __future__ import annotations

from typing import Any

import numpy as np

from densefit.head.build.anatomy import MM
from densefit.head.build.assemble import PART_NAMES, Assembly
from densefit.head.build.mesh import cast, closest, raycaster
from densefit.head.build.placement import FLIP, Placement, Surface, curve

Array = np.ndarray[Any, np.dtype[Any]]


def add_lips(out: Placement, surface: Surface, ibug: Array, twin: Array, lower_lip: Array) -> None:
    """Vermilion borders and the lines where the lips meet, left corner to right corner."""

    def symmetric(left_half: Array, count: int) -> Array:
        whole = np.concatenate([left_half, (left_half * FLIP)[-2::-1]])
        return curve(whole, count)

    corner = ibug[54]
    outer_upper = symmetric(np.stack([corner, ibug[53], ibug[52], ibug[51]]), 17)
    outer_lower = symmetric(np.stack([corner, ibug[55], ibug[56], ibug[57]]), 17)[1:-1]
    seam = _lip_seam(surface.head, ibug)
    line = np.concatenate([ibug[64][None], seam, ibug[60][None]])
    inner = (lambda c: (c + (c * FLIP)[::-1]) / 2)(curve(line, 17))
    above, below = inner + np.array([0, 0.7, 0.3]) * MM, inner + np.array([0, -0.7, 0.3]) * MM
    middle_upper = (curve(outer_upper, 13)[1:-1] + curve(above, 13)[1:-1]) / 2 + np.array(
        [0, 0, 1.5]
    ) * MM
    lower_outline = np.concatenate([outer_upper[:1], outer_lower, outer_upper[-1:]])
    middle_lower = (curve(lower_outline, 13)[1:-1] + curve(below, 13)[1:-1]) / 2
    middle_lower += np.array([0, 0, 1.5]) * MM
    lips = Lips(surface, lower_lip)
    out.add_centred("lips_outer_upper", *surface.lay(outer_upper), twin)
    out.add_centred("lips_outer_lower", *surface.lay(outer_lower), twin)
    out.add_centred("lips_middle_upper", *surface.lay(middle_upper), twin)
    out.add_centred("lips_middle_lower", *surface.lay(middle_lower), twin)
    out.add_centred("lips_inner_upper", *lips.lay(above, True), twin)
    out.add_centred("lips_inner_lower", *lips.lay(below[1:-1], False), twin)


class Lips:
    """Upper and lower lip apart, so that points on the seam land on the right one."""

    def __init__(self, surface: Surface, lower: Array) -> None:
        on_lower = lower[surface.triangles].all(1)
        on_upper = ~lower[surface.triangles].any(1)
        self.triangles = {True: surface.triangles[on_upper], False: surface.triangles[on_lower]}
        self.scenes = {k: raycaster(surface.head.vertices, t) for k, t in self.triangles.items()}

    def lay(self, points: Array, upper: bool) -> tuple[Array, Array]:
        """Closest points on one lip's side of the face."""
        _, triangle, bary = closest(self.scenes[upper], points)
        return self.triangles[upper][triangle], bary


def _lip_seam(head: Assembly, ibug: Array) -> Array:
    """Where the lips meet, seen from the front, left to right: the deepest point of each column."""
    skin = head.labels < PART_NAMES.index("eyes")
    scene = raycaster(head.vertices, head.triangles[skin])
    points = []
    reach = ibug[64, 0] * 0.86
    for x in np.linspace(reach, -reach, 13):
        expected = np.interp(
            abs(x), ibug[[62, 63, 64], 0], (ibug[[62, 63, 64], 1] + ibug[[66, 65, 64], 1]) / 2
        )
        y = expected + np.linspace(-3, 3, 301) * MM
        origin = np.stack([np.full_like(y, x), y, np.full_like(y, 0.3)], -1)
        depth = cast(scene, origin, np.array([0, 0, -1.0]))["t_hit"]
        deepest = int(np.argmax(np.where(np.isfinite(depth), depth, 0)))
        front = depth[max(0, deepest - 40) : deepest + 40].min()
        points.append(np.array([x, y[deepest], 0.3 - min(depth[deepest], front + 2 * MM)]))
    seam = np.array(points)
    return (seam + (seam * FLIP)[::-1]) / 2
