"""What may touch in a head: lids and eyeballs, lips and the front of the teeth.

`intersection.py` finds contacts among these points and what they cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from densefit.head.model import HeadModel

Tensor = torch.Tensor

LID_REACH = 0.018
"""m from an eyeball's centre: skin farther away cannot touch it."""
LIP_REACH = 0.005
"""m from a landmark of the lips: skin that belongs to them."""
TEETH_SPACING = 0.0015
"""m between the points that stand for the front of the teeth."""
TEETH_SMOOTH = 0.004
"""m over which the normals of single crowns are averaged to those of the row."""
BESIDE = 0.0015
"""m along the teeth: a lip point farther than this from every point of them is past their edge."""
TEETH_MARGIN = 0.2e-3
"""m: the same before the teeth, whose front is known at points only."""
DEEPEST = 0.012
"""m: a lip farther behind the teeth than this is seen through the open mouth, no contact."""


@dataclass(frozen=True)
class ContactModel:
    """What may touch, reduced from a HeadModel; planes as in LandmarkModel, N points.

    The points are first those near the two eyes (relative to their centres), then the lips, then
    the front of the teeth.
    """

    template: Tensor
    """(3, N) metres, head frame; of the eyes relative to the centre of the eyeball."""
    identity: Tensor
    """(K, 3 N)."""
    expression: Tensor
    """(52, 3 N)."""
    lids: int
    """Number of points about both eyes."""
    lips: int
    radius: float
    """m, of the eyeballs."""
    normals: Tensor
    """(Nt, 3) of the points of the teeth, outwards."""
    reach: tuple[float, float]
    """m: a lip point this much nearer to the middle than all teeth, or this much in front of all
    that are not nearer, touches none."""

    @property
    def count(self) -> int:
        """N."""
        return int(self.template.shape[1])


def contact_model(head: HeadModel, dtype: torch.dtype, lids_settle: bool = False) -> ContactModel:
    """Reduce a head; one without eyeballs or teeth has fewer contacts or none.

    lids_settle: the head model itself lays the lids on the eyeballs, so that they need not be held
    off; where the linear shapes would put them says nothing then.
    """
    skin = _part(head, "skin")
    eyes = _part(head, "eyes", "iris", "pupil")
    at: list[np.ndarray] = []
    centre: list[np.ndarray] = []
    radius = 0.0
    for joint in (2, 3):
        middle = head.joint_centres[joint]
        own = eyes[np.linalg.norm(head.template[eyes] - middle, axis=1) < LID_REACH]
        if lids_settle or not len(own):
            continue
        radius = float(np.linalg.norm(head.template[own] - middle, axis=1).mean())
        near = skin[np.linalg.norm(head.template[skin] - middle, axis=1) < LID_REACH]
        at.append(near)
        centre.append(np.full(len(near), joint))
    turning = np.concatenate(centre) if centre else np.zeros(0, int)
    lids = np.concatenate(at) if at else np.zeros(0, int)
    front, normals = _teeth_front(head)
    lips = _lips(head, skin) if len(front) else np.zeros(0, int)
    vertices = np.concatenate([lids, lips, front])
    template = head.template[vertices].astype(np.float64)
    identity = head.identity_basis[:, vertices].astype(np.float64)
    template[: len(lids)] -= head.joint_centres[turning]
    identity[:, : len(lids)] -= head.joint_basis[:, turning]

    def planes(rows: np.ndarray) -> Tensor:
        return torch.tensor(np.ascontiguousarray(np.moveaxis(rows, -1, -2)), dtype=dtype)

    return ContactModel(
        template=planes(template),
        identity=planes(identity).reshape(len(identity), -1),
        expression=planes(head.expression_basis[:, vertices]).reshape(52, -1),
        lids=len(lids),
        lips=len(lips),
        radius=radius,
        normals=torch.tensor(normals, dtype=dtype),
        reach=_reach(head.template[front], normals),
    )


def _part(head: HeadModel, *names: str) -> np.ndarray:
    known = [name for name in names if name in head.part_names]
    return np.unique(head.triangles[head.part_triangles(*known)]) if known else np.zeros(0, int)


def lip_vertices(head: HeadModel) -> np.ndarray:
    """Vertices of the skin that belong to the lips."""
    return _lips(head, _part(head, "skin"))


def _lips(head: HeadModel, skin: np.ndarray) -> np.ndarray:
    lips = np.flatnonzero(np.char.startswith(np.array(head.region_names), "lips"))
    marks = head.landmarks(head.template)[np.isin(head.landmark_region, lips)]
    if not len(marks):
        return np.zeros(0, int)
    return skin[cKDTree(marks).query(head.template[skin])[0] < LIP_REACH]


def _teeth_front(head: HeadModel) -> tuple[np.ndarray, np.ndarray]:
    """Vertices on the front of the teeth, and horizontal normals (N, 3) of the rows there."""
    known = [name for name in ("teeth",) if name in head.part_names]
    triangles = head.triangles[head.part_triangles(*known)]
    if not len(triangles):
        return np.zeros(0, int), np.zeros((0, 3))
    points = head.template.astype(np.float64)
    corners = points[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal = np.zeros_like(points)
    for corner in range(3):
        np.add.at(normal, triangles[:, corner], face)
    vertices = np.unique(triangles)
    flat = normal[vertices] * [1, 0, 1]
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    outward = points[vertices] * [1, 0, 1] - [0, 0, points[vertices][:, 2].min()]
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-12)
    facing = (flat * outward).sum(1) > 0.7
    vertices, flat = vertices[facing], flat[facing]
    tree = cKDTree(points[vertices])
    chosen: list[int] = []
    taken = np.zeros(len(vertices), bool)
    for i in range(len(vertices)):
        if not taken[i]:
            chosen.append(i)
            taken[tree.query_ball_point(points[vertices[i]], TEETH_SPACING)] = True
    smooth = np.stack(
        [flat[tree.query_ball_point(points[vertices[i]], TEETH_SMOOTH)].mean(0) for i in chosen]
    )
    return vertices[chosen], smooth / np.linalg.norm(smooth, axis=1, keepdims=True)


def _reach(front: np.ndarray, normals: np.ndarray) -> tuple[float, float]:
    """Of a contact p = t - behind n + beside, with normals that lean inwards or back a little."""
    if not len(front):
        return BESIDE, BESIDE
    inwards = max(0.0, float(-(normals[:, 0] * np.sign(front[:, 0])).min()))
    back = max(0.0, float(-normals[:, 2].min()))
    return BESIDE + DEEPEST * inwards, BESIDE + TEETH_MARGIN + DEEPEST * back
