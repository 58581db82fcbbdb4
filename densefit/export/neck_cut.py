"""Where the written head ends: at the lowest closed row of its mesh around the neck.

The head model is cut out of a body along a plane, across the rows of the mesh, which leaves the
shoulders in shreds. What lies below the lowest edge loop around the neck is not drawn and not
written; its vertices stay, so that their numbers remain those of the model.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from densefit.head.subdivide import join_quads

if TYPE_CHECKING:
    from densefit.head.model import HeadModel

PART = "neck"
Edge = frozenset[int]


def shown_triangles(head: HeadModel) -> np.ndarray:
    """(F,) bool: not below the lowest closed edge loop around the neck; all without such a loop."""
    template, triangles = head.template, head.triangles
    everything = np.ones(len(triangles), bool)
    numbers = [number for number, name in enumerate(head.part_names) if name == PART]
    in_neck = np.flatnonzero(np.isin(head.triangle_part, numbers))
    if not len(in_neck):
        return everything
    polygons, _, _ = join_quads(triangles[in_neck], head.uv_triangles[in_neck])
    corners = [[c for c in polygon if c >= 0] for polygon in polygons.tolist()]
    faces_of = defaultdict(list)
    for face, polygon in enumerate(corners):
        for edge in _edges(polygon):
            faces_of[edge].append(face)
    loops = _closed_loops(faces_of)
    if not loops:
        return everything
    lowest = min(loops, key=lambda loop: float(np.mean([template[v, 1] for v in loop])))
    below = _below(template, corners, faces_of, set(_edges(lowest)))
    gone = {tuple(sorted(c)) for face in below for c in _triples(corners[face])}
    here = [tuple(sorted(triangle)) in gone for triangle in triangles[in_neck].tolist()]
    everything[in_neck[here]] = False
    return everything


def _edges(cycle: list[int]) -> list[Edge]:
    return [frozenset(pair) for pair in zip(cycle, cycle[1:] + cycle[:1], strict=True)]


def _triples(polygon: list[int]) -> list[list[int]]:
    if len(polygon) == 3:
        return [polygon]
    return [polygon[:k] + polygon[k + 1 :] for k in range(4)]


def _closed_loops(faces_of: dict[Edge, list[int]]) -> list[list[int]]:
    """Edge loops: at a vertex of four edges they go on along the edge opposite."""
    neighbours = defaultdict(set)
    for edge in faces_of:
        a, b = edge
        neighbours[a].add(b)
        neighbours[b].add(a)
    loops: list[list[int]] = []
    done: set[Edge] = set()
    for start in faces_of:
        if start in done:
            continue
        path = list(start)
        while True:
            before, last = path[-2], path[-1]
            beside = set(faces_of[frozenset((before, last))])
            ahead = [
                v
                for v in neighbours[last]
                if v != before and not beside & set(faces_of[frozenset((last, v))])
            ]
            if len(neighbours[last]) != 4 or len(ahead) != 1 or len(path) > len(faces_of):
                break
            if ahead[0] == path[0]:
                loops.append(path)
                done.update(_edges(path))
                break
            path.append(ahead[0])
    return loops


def _below(
    template: np.ndarray,
    corners: list[list[int]],
    faces_of: dict[Edge, list[int]],
    loop: set[Edge],
) -> set[int]:
    """Faces that hang together with the lowest one without crossing the loop."""
    first = min(range(len(corners)), key=lambda face: float(template[corners[face], 1].mean()))
    found, waiting = {first}, [first]
    while waiting:
        for edge in _edges(corners[waiting.pop()]):
            fresh = [] if edge in loop else [f for f in faces_of[edge] if f not in found]
            found.update(fresh)
            waiting += fresh
    return found
