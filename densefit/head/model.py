"""The head model as numpy arrays: template, identity, expression, joints and the 703 landmarks.

Formula (head frame, metres):

    S   = settle(template + identity @ identity_basis + expression @ expression_basis)
    c_j = joint_centres[j] + identity @ joint_basis[:, j]
    X   = sum_j skinning[:, j] (R_j (S - c_j) + c_j),   R_head = I

`settle` keeps the lids on the eyeballs (see lids.py) and touches nothing else. The joints are
independent of one another: each turns its own vertices about its own centre, relative to the head,
which is the root.
"""

from __future__ import annotations

import functools
import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densefit.errors import InputError
from densefit.files import NPZ_ERRORS
from densefit.head.lids import LID_FIELDS, Lids, settled
from densefit.head.rotation import rotation_matrix

Array = np.ndarray[Any, np.dtype[Any]]

JOINT_NAMES = ("neck", "head", "left_eye", "right_eye")

# Apple's ARKit blend shapes in the order of ARFaceAnchor.BlendShapeLocation.
EXPRESSION_NAMES = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft",
    "eyeSquintLeft", "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight",
    "eyeLookOutRight", "eyeLookUpRight", "eyeSquintRight", "eyeWideRight", "jawForward",
    "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft",
    "mouthRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight",
    "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft",
    "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft",
    "mouthUpperUpRight", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft",
    "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft",
    "noseSneerRight", "tongueOut",
)  # fmt: skip
EXPRESSION_INDEX = {name: index for index, name in enumerate(EXPRESSION_NAMES)}
GAZE_EXPRESSIONS = tuple(i for i, name in enumerate(EXPRESSION_NAMES) if "eyeLook" in name)
BLINKS = (EXPRESSION_INDEX["eyeBlinkLeft"], EXPRESSION_INDEX["eyeBlinkRight"])

LANDMARK_COUNT = 703


def twin(name: str) -> str:
    """The shape that a mirror shows: mouthSmileRight of mouthSmileLeft; jawOpen is its own."""
    for side, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(side):
            return name.removesuffix(side) + other
    return name


@dataclass(frozen=True)
class HeadModel:
    """A morphable head. Float arrays are float32, index arrays int32; metres, head frame."""

    name: str
    sha256: str
    """Of the asset file."""
    template: Array
    """(V, 3): the mean person at rest."""
    triangles: Array
    """(F, 3): counter-clockwise seen from outside."""
    uv: Array
    """(U, 2) in [0, 1], v up."""
    uv_triangles: Array
    """(F, 3): indices into uv."""
    triangle_part: Array
    """(F,) uint8: index into part_names."""
    part_names: tuple[str, ...]
    identity_basis: Array
    """(K, V, 3): metres per standard deviation; the prior of the coefficients is N(0, I)."""
    expression_basis: Array
    """(52, V, 3)."""
    joint_centres: Array
    """(4, 3): of neck, head, left eye, right eye in the template."""
    joint_basis: Array
    """(K, 4, 3): motion of the joint centres with identity."""
    skinning: Array
    """(V, 4): weights over the joints; rows sum to one."""
    landmark_vertices: Array
    """(703, 3)."""
    landmark_weights: Array
    """(703, 3): barycentric."""
    landmark_region: Array
    """(703,) uint8: index into region_names."""
    region_names: tuple[str, ...]
    face320: Array
    """(320,): landmarks of the face alone."""
    ibug68: Array
    """(68,): landmarks in iBUG order."""
    landmarks_version: str
    mirror_vertices: Array
    """(V,): the left-right twin of each vertex."""
    mirror_landmarks: Array
    """(703,)."""
    lid_limits: Array
    """(2,): gaze angles in radians, vertical and horizontal, at which the eyeLook shapes are 1."""
    lids: Lids | None = None
    """How lids are kept on the eyeballs; None: the plain sum of shapes."""

    @property
    def expression_names(self) -> tuple[str, ...]:
        """The 52 ARKit names, in order."""
        return EXPRESSION_NAMES

    @property
    def identity_count(self) -> int:
        """K, the number of identity coefficients."""
        return int(self.identity_basis.shape[0])

    def gaze_expression(self, joints: Array) -> Array:
        """The eight eyeLook values as a fixed function of the eye joints.

        Args:
            joints: (T, 4, 3) radians.

        Returns:
            (T, 52), zero except for the eyeLook shapes.
        """
        joints = np.asarray(joints)
        out = np.zeros((len(joints), len(EXPRESSION_NAMES)), joints.dtype)
        for side, joint, outward in (("Left", 2, 1.0), ("Right", 3, -1.0)):
            vertical = -joints[:, joint, 0] / self.lid_limits[0]
            horizontal = outward * joints[:, joint, 1] / self.lid_limits[1]
            for name, value in (
                ("Up", vertical), ("Down", -vertical), ("Out", horizontal), ("In", -horizontal),
            ):  # fmt: skip
                out[:, EXPRESSION_INDEX[f"eyeLook{name}{side}"]] = np.clip(value, 0, 1)
        return out

    def with_gaze(self, expression: Array, joints: Array) -> Array:
        """Expressions (T, 52) with the eyeLook entries replaced by those of the eye joints."""
        out = np.array(expression, copy=True)
        gaze = list(GAZE_EXPRESSIONS)
        out[:, gaze] = self.gaze_expression(joints)[:, gaze]
        return out

    def joint_positions(self, identity: Array) -> Array:
        """Centres (4, 3) of the joints of a person with coefficients (K,)."""
        return self.joint_centres + np.tensordot(identity, self.joint_basis, 1)

    def neutral(self, identity: Array) -> Array:
        """Vertices (V, 3) of a person at rest."""
        return self.shapes(identity, np.zeros((1, len(EXPRESSION_NAMES)), np.float32))[0]

    def shapes(self, identity: Array, expression: Array) -> Array:
        """Vertices (T, V, 3) before the joints turn them, for expressions (T, 52)."""
        flat = self.identity_basis.reshape(self.identity_count, -1)
        person = self.template.ravel() + np.asarray(identity, np.float32) @ flat
        psi = np.asarray(expression, np.float32)
        out = person + psi @ self.expression_basis.reshape(len(EXPRESSION_NAMES), -1)
        return self._settle(out.reshape(len(psi), -1, 3), identity, psi)

    def _settle(self, shape: Array, identity: Array, expression: Array) -> Array:
        """Bring lids and lashes (T, V, 3) onto the eyeballs, in place."""
        lids = self.lids
        if lids is None:
            return shape
        shift = np.tensordot(identity, self.joint_basis, 1).astype(np.float32)[2:][lids.side]
        centre = self.joint_centres[2:][lids.side] + shift
        blinked = self.expression_basis[list(BLINKS)][lids.side, lids.vertices]
        before = shape[:, lids.vertices]
        after = settled(
            before, self.template[lids.vertices], blinked,
            expression[:, list(BLINKS)][:, lids.side], centre, shift, lids,
        )  # fmt: skip
        shape[:, lids.vertices] = after
        carried = (after - before)[:, lids.lash_anchors]
        shape[:, lids.lashes] += (carried * lids.lash_weights[..., None]).sum(2)
        return shape

    def vertices(self, identity: Array, expression: Array, joints: Array) -> Array:
        """Vertices in the head frame.

        Args:
            identity: (K,) standard deviations.
            expression: (T, 52) in [0, 1]; its eyeLook entries follow from the joints.
            joints: (T, 4, 3) radians.

        Returns:
            (T, V, 3) float32 metres.
        """
        joints = np.asarray(joints, np.float32)
        psi = self.with_gaze(np.asarray(expression, np.float32), joints)
        shape = self.shapes(identity, psi)
        centres = self.joint_positions(identity).astype(np.float32)
        rotations = rotation_matrix(joints)
        out = shape.copy()
        for j, _ in enumerate(JOINT_NAMES):
            touched = np.flatnonzero(self.skinning[:, j])
            if j == 1 or not len(touched):
                continue
            arm = shape[:, touched] - centres[j]
            turned = np.einsum("tij,tvj->tvi", rotations[:, j], arm)
            out[:, touched] += self.skinning[touched, j, None] * (turned - arm)
        return out

    def landmarks(self, vertices: Array) -> Array:
        """The 703 landmarks (..., 703, 3) of vertices (..., V, 3)."""
        corners = vertices[..., self.landmark_vertices, :]
        return np.einsum("...kcd,kc->...kd", corners, self.landmark_weights)

    def region(self, name: str) -> Array:
        """Indices of the landmarks of a region, in their order along it."""
        return np.flatnonzero(self.landmark_region == self.region_names.index(name))

    def part_triangles(self, *names: str) -> Array:
        """Indices of the triangles of the named parts."""
        return np.flatnonzero(
            np.isin(self.triangle_part, [self.part_names.index(n) for n in names])
        )


DEFAULT_ASSET = Path(__file__).with_name("head.npz")


def load_head(path: Path | None = None) -> HeadModel:
    """Read a compiled head asset (the shipped one by default).

    Raises:
        InputError: the file is missing, damaged or not a head asset.
    """
    return _read_head(Path(path) if path is not None else DEFAULT_ASSET)


@functools.lru_cache(maxsize=4)
def _read_head(path: Path) -> HeadModel:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except NPZ_ERRORS as error:
        # numpy takes what is no archive for pickled data and advises to load that.
        known = not path.is_file() or zipfile.is_zipfile(path)
        reason = error if known else "no .npz archive"
        raise InputError(
            f"{path}: cannot be read as a head model ({reason}); check --model"
        ) from error
    missing = {"template", "identity_delta", "landmarks_version"} - arrays.keys()
    if missing:
        raise InputError(f"{path}: not a densefit head, it lacks {', '.join(sorted(missing))}")
    return _from_arrays(arrays, digest)


def _from_arrays(arrays: dict[str, Array], sha256: str) -> HeadModel:
    def expand(name: str) -> Array:
        """Deltas are stored as float16 fractions of each mode's largest entry."""
        scale = arrays[f"{name}_scale"].astype(np.float32)
        return arrays[f"{name}_delta"].astype(np.float32) * scale[:, None, None]

    def floats(name: str) -> Array:
        return np.ascontiguousarray(arrays[name], np.float32)

    def integers(name: str) -> Array:
        return np.ascontiguousarray(arrays[name], np.int32)

    def strings(name: str) -> tuple[str, ...]:
        return tuple(str(item) for item in arrays[name])

    return HeadModel(
        name=str(arrays["name"]),
        sha256=sha256,
        template=floats("template"),
        triangles=integers("triangles"),
        uv=floats("uv"),
        uv_triangles=integers("uv_triangles"),
        triangle_part=arrays["triangle_part"],
        part_names=strings("part_names"),
        identity_basis=expand("identity"),
        expression_basis=expand("expression"),
        joint_centres=floats("joint_centres"),
        joint_basis=floats("joint_basis"),
        skinning=floats("skinning"),
        landmark_vertices=integers("landmark_vertices"),
        landmark_weights=floats("landmark_weights"),
        landmark_region=arrays["landmark_region"],
        region_names=strings("region_names"),
        face320=integers("face320"),
        ibug68=integers("ibug68"),
        landmarks_version=str(arrays["landmarks_version"]),
        mirror_vertices=integers("mirror_vertices"),
        mirror_landmarks=integers("mirror_landmarks"),
        lid_limits=floats("lid_limits"),
        lids=_lids(arrays),
    )


def _lids(arrays: dict[str, Array]) -> Lids | None:
    stored = {name: arrays.get(f"lid_{name}") for name in LID_FIELDS}
    if any(value is None for value in stored.values()):
        return None
    return Lids(**{name: np.ascontiguousarray(value) for name, value in stored.items()})
