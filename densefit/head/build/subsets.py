"""The smaller sets among the 703 landmarks: the face alone, and iBUG's 68."""

from __future__ import annotations

from typing import Any

import numpy as np

from densefit.head.build.assemble import Assembly
from densefit.head.build.placement import Placement

Array = np.ndarray[Any, np.dtype[Any]]


def face320(out: Placement) -> Array:
    """320 landmarks of the face alone: brows, lids, irises, nose, lips, jaw and face."""
    names = ("brow", "lid", "iris", "nos", "lips", "jaw")
    curves = [i for i, r in enumerate(out.region_of) if any(n in out.regions[r] for n in names)]
    chosen = list(curves)
    for i, r in enumerate(out.region_of):
        if out.regions[r] in ("face_middle", "left_face") and len(chosen) < 320:
            pair = {i, out.mirror[i]}
            if len(chosen) + len(pair) <= 320:
                chosen += sorted(pair)
    assert len(chosen) == 320, len(chosen)
    return np.array(sorted(chosen), np.int32)


# iBUG points and the region in which each has its landmark (indices as iBUG counts).
_IBUG_REGIONS = {
    "jaw": range(0, 17), "nose_ridge": range(27, 31), "right_nostril": (31, 32), "nose_base": (33,),
    "left_nostril": (34, 35), "right_upper_lid": (36, 37, 38, 39), "right_lower_lid": (40, 41),
    "left_upper_lid": (42, 43, 44, 45), "left_lower_lid": (46, 47),
    "lips_outer_upper": range(48, 55), "lips_outer_lower": range(55, 60),
    "lips_inner_upper": range(60, 65), "lips_inner_lower": range(65, 68),
}  # fmt: skip

# Where along lids and lips people annotate: the mean of the 300-W annotations (Sagonas et al.,
# 2016) has these points at such shares of the way from the outer to the inner corner of the eye,
# and from the midline to the corner of the mouth. ICT's own points lie elsewhere along the curves.
_LID_SHARE = {37: 0.31, 38: 0.675, 40: 0.65, 41: 0.285, 43: 0.675, 44: 0.31, 46: 0.285, 47: 0.65}
_LIP_SHARE = {
    49: 0.63, 50: 0.26, 52: 0.26, 53: 0.63, 55: 0.64, 56: 0.28, 58: 0.28, 59: 0.64,
    60: 0.85, 61: 0.26, 63: 0.26, 64: 0.85, 65: 0.27, 67: 0.27,
}  # fmt: skip


def ibug68(out: Placement, head: Assembly, ibug: Array) -> Array:
    """The landmark of the right region nearest to each iBUG point of the mean head.

    On lids and lips the one nearest across the face to where annotators put the point.
    """
    place = np.einsum("kcd,kc->kd", head.vertices[np.array(out.vertices)], np.array(out.weights))
    across = {m: _share_of_eye(ibug, m, share) for m, share in _LID_SHARE.items()}
    across |= {m: np.sign(ibug[m, 0]) * share * ibug[54, 0] for m, share in _LIP_SHARE.items()}
    chosen = np.zeros(68, np.int32)
    for region, members in _IBUG_REGIONS.items():
        block = out.start(region)
        for member in members:
            if member in across:
                distance = np.abs(place[block, 0] - across[member])
            else:
                distance = np.linalg.norm(place[block] - ibug[member], axis=1)
            chosen[member] = block.start + int(np.argmin(distance))
    for region, members in (
        ("right_brow_upper", range(21, 16, -1)),
        ("left_brow_upper", range(22, 27)),
    ):
        chosen[list(members)] = out.start(region).start + np.arange(0, 9, 2)
    assert len(set(chosen.tolist())) == 68
    return chosen


def _share_of_eye(ibug: Array, member: int, share: float) -> float:
    """x of a lid point from its share of the way from the outer to the inner corner."""
    outer, inner = (36, 39) if member < 42 else (45, 42)
    return float(ibug[outer, 0] + share * (ibug[inner, 0] - ibug[outer, 0]))
