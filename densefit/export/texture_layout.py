"""Texture coordinates that give most of a colour map to the face.

The head model's own leave room for a whole body: the skin of the face takes a twentieth of the map,
two texels a millimetre. For `--texture` its parts are moved and enlarged, each as it is, into
places of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from densefit.head.model import HeadModel

REST = "others"


@dataclass(frozen=True)
class Place:
    """A rectangle of the map, from its lower left corner; sides are 1."""

    parts: tuple[str, ...]
    corner: tuple[float, float]
    size: tuple[float, float]


PLACES = (
    Place(("skin", "ears"), (0.004, 0.004), (0.548, 0.992)),
    Place(("scalp",), (0.560, 0.004), (0.264, 0.648)),
    Place(("neck",), (0.560, 0.660), (0.436, 0.336)),
    Place((REST,), (0.832, 0.004), (0.164, 0.648)),
)
"""Ears lie in holes of the skin. Between places are the texels that filters see past an edge."""


def laid_out_for_texture(head: HeadModel) -> HeadModel:
    """The same head with such texture coordinates; itself where its face would become smaller."""
    place_of = {name: k for k, place in enumerate(PLACES) for name in place.parts}
    of_part = np.array([place_of.get(name, len(PLACES) - 1) for name in head.part_names])
    group = of_part[head.triangle_part]
    uv, triangles, start = [], np.zeros_like(head.uv_triangles), 0
    for k, place in enumerate(PLACES):
        chosen = group == k
        used, flat = np.unique(head.uv_triangles[chosen], return_inverse=True)
        if not len(used):
            continue
        own = head.uv[used].astype(np.float64)
        low, extent = own.min(axis=0), np.maximum(np.ptp(own, axis=0), 1e-6)
        scale = float((np.array(place.size) / extent).min())
        if k == 0 and scale < 1:
            return head
        uv.append(place.corner + scale * (own - low))
        triangles[chosen] = start + flat.reshape(-1, 3)
        start += len(used)
    return replace(head, uv=np.concatenate(uv).astype(head.uv.dtype), uv_triangles=triangles)
