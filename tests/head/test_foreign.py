"""Other head models: small synthetic files of the published layouts become usable heads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from densefit.cli import main
from densefit.errors import InputError
from densefit.head import HeadModel, load_head
from densefit.head.foreign import flame, gnm, ict
from densefit.head.foreign.convert import _foremost, convert
from densefit.head.torch_model import TorchHead

ICT = Path(__file__).parents[3] / "shared" / "data" / "ict_facekit"


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head()


def body(head: HeadModel) -> dict[str, np.ndarray]:
    """Skin and eyeballs of the shipped head, as another model's arrays in metres."""
    keep = head.part_triangles("skin", "ears", "scalp", "neck", "eyes", "iris", "pupil")
    used, inverse = np.unique(head.triangles[keep], return_inverse=True)
    return {
        "vertices": head.template[used].astype(np.float64) + [0.01, 1.6, 0.02],
        "triangles": inverse.reshape(-1, 3),
        "identity": head.identity_basis[:4, used],
        "eyes": head.skinning[used][:, 2:].T > 0.5,
        "used": used,
    }


def write_gnm(head: HeadModel, path: Path, unit: float = 1.0, **changes: object) -> Path:
    parts = body(head)
    arrays: dict[str, object] = {
        "version": "3.0", "variant": "head",
        "template_vertex_positions": parts["vertices"] / unit,
        "vertex_identity_basis": parts["identity"] / unit,
        "expression_basis": np.zeros((2, *parts["vertices"].shape)),
        "triangles": parts["triangles"],
        "joint_names": np.array(["neck", "head", "left_eye", "right_eye"]),
        "template_joint_positions": (head.joint_centres + [0.01, 1.6, 0.02]) / unit,
        "vertex_groups": parts["eyes"].astype(np.float32),
        "vertex_group_names": np.array(["left_eye", "right_eye"]),
    }  # fmt: skip
    arrays |= changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})  # type: ignore[arg-type]
    return path


def write_flame(head: HeadModel, path: Path, **changes: object) -> Path:
    parts = body(head)
    count = len(parts["vertices"])
    weights = np.zeros((count, 5))
    weights[:, 1] = 1
    for joint, eye in zip((3, 4), parts["eyes"], strict=True):
        weights[eye] = np.eye(5)[joint]
    directions = np.zeros((count, 3, 150))
    directions[:, :, :4] = np.moveaxis(parts["identity"], 0, 2)
    # Joints are means of vertices: of an eyeball's equator, whose mean is its centre.
    regressor = weights.T.copy()
    for joint, eye, centre in zip((3, 4), parts["eyes"], head.joint_centres[2:], strict=True):
        regressor[joint] = eye & (np.abs(parts["vertices"][:, 2] - 0.02 - centre[2]) < 1e-5)
    regressor /= np.maximum(regressor.sum(1, keepdims=True), 1)
    arrays: dict[str, object] = {
        "v_template": parts["vertices"], "shapedirs": directions, "f": parts["triangles"],
        "J_regressor": regressor, "weights": weights,
    }  # fmt: skip
    arrays |= changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("kind", ["gnm", "flame"])
def test_imported_head_works_like_the_shipped_one(
    head: HeadModel, tmp_path: Path, kind: str
) -> None:
    if kind == "gnm":
        foreign = gnm.read(write_gnm(head, tmp_path / "gnm_head.npz", unit=0.01))  # centimetres
    else:
        foreign = flame.read(write_flame(head, tmp_path / "flame.npz"))
    other = load_head(convert(foreign, head, tmp_path / f"{kind}_head.npz"))
    used = body(head)["used"]
    np.testing.assert_allclose(other.template, head.template[used], atol=2e-4)
    assert other.landmarks_version == head.landmarks_version
    # The landmarks came over by registration: on skin and eyeballs they are where ours are.
    gap = np.linalg.norm(other.landmarks(other.template) - head.landmarks(head.template), axis=1)
    inside = np.array(["teeth" in n or n == "tongue" for n in head.region_names])
    gap = gap[~inside[head.landmark_region]]
    assert np.median(gap) < 5e-4 and gap.max() < 2.5e-3
    # Identity is the other model's own, expressions act like ours, eyes turn rigidly.
    identity = np.zeros(other.identity_count)
    identity[1] = 1.5
    expected = head.template[used] + 1.5 * head.identity_basis[1, used]
    np.testing.assert_allclose(other.neutral(identity), expected, atol=3e-4)
    expression, joints = np.zeros((2, 52)), np.zeros((2, 4, 3))
    expression[1, other.expression_names.index("jawOpen")] = 1
    joints[1, 2:] = [0.1, 0.2, 0]
    posed = other.vertices(np.zeros(other.identity_count), expression, joints)
    chin = other.ibug68[8]
    assert (other.landmarks(posed)[1] - other.landmarks(posed)[0])[chin, 1] < -0.01
    ball = np.flatnonzero(other.skinning[:, 2] > 0.5)
    radius = np.linalg.norm(posed[:, ball] - other.joint_centres[2], axis=2)
    np.testing.assert_allclose(radius[0], radius[1], atol=1e-4)
    import torch

    twin = TorchHead(other).vertices(
        torch.zeros(2, other.identity_count), torch.tensor(expression).float(),
        torch.tensor(joints).float(),
    )  # fmt: skip
    np.testing.assert_allclose(twin.numpy(), posed, atol=2e-6)


def test_landmarks_of_lips_that_touch_lie_on_their_own_lip(head: HeadModel, tmp_path: Path) -> None:
    """Here the lower lip reaches up to the upper one's landmarks, nearer than that is itself."""
    foreign = gnm.read(write_gnm(head, tmp_path / "gnm_head.npz"))
    jaw = head.expression_names.index("jawOpen")
    drop = head.expression_basis[jaw, body(head)["used"]].astype(np.float64)
    edge = head.landmarks(head.template)[
        head.landmark_region == head.region_names.index("lips_inner_upper")
    ]
    own = foreign.vertices - foreign.eye_centres.mean(0)
    near = np.linalg.norm(own[:, None] - edge, axis=2).min(1) < 4e-3
    hangs = np.linalg.norm(drop, axis=1) > 0.4 * np.linalg.norm(drop, axis=1).max()
    shut = foreign.vertices.copy()
    shut[near & hangs] += [0, 1.5e-3, 0.5e-3]
    foreign = replace(foreign, vertices=shut, expression={"jawOpen": drop})
    other = load_head(convert(foreign, head, tmp_path / "shut.npz"))
    moved = other.landmarks(other.template + other.expression_basis[jaw]) - other.landmarks(
        other.template
    )
    ours = head.landmarks(head.template + head.expression_basis[jaw]) - head.landmarks(
        head.template
    )
    names = np.array(head.region_names)[head.landmark_region]
    lips = np.char.startswith(names, "lips")
    np.testing.assert_allclose(moved[lips, 1], ours[lips, 1], atol=8e-3)


def test_files_of_other_versions_are_refused(head: HeadModel, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    with pytest.raises(InputError, match="GNM version 4"):
        gnm.read(write_gnm(head, path, version="4.0"))
    with pytest.raises(InputError, match="lacks joint_names"):
        gnm.read(write_gnm(head, path, joint_names=None))
    with pytest.raises(InputError, match="no joint of the left eye"):
        gnm.read(write_gnm(head, path, joint_names=np.array(list("abcd"))))
    with pytest.raises(InputError, match="vertex_identity_basis"):
        gnm.read(write_gnm(head, path, vertex_identity_basis=np.zeros((2, 5, 3))))
    with pytest.raises(InputError, match="unknown version of FLAME"):
        flame.read(write_flame(head, path, J_regressor=np.zeros((7, 3))))
    with pytest.raises(InputError, match="lacks weights"):
        flame.read(write_flame(head, path, weights=None))
    with pytest.raises(InputError, match="convert it"):
        flame.read(tmp_path / "generic_model.pkl")
    huge = gnm.read(write_gnm(head, path, unit=1e-6))
    with pytest.raises(InputError, match="units apart"):
        convert(huge, head, tmp_path / "out.npz")
    with pytest.raises(InputError, match="generic_neutral_mesh"):
        ict.read(tmp_path)


@pytest.mark.parametrize("unit", [1.0, 0.1, 0.01, 0.001])
def test_eyes_that_no_group_names_are_found_in_any_unit(
    head: HeadModel, tmp_path: Path, unit: float
) -> None:
    path = write_gnm(head, tmp_path / "gnm_head.npz", unit, vertex_groups=None)
    for eye, ball in zip(gnm.read(path).eyes, body(head)["eyes"], strict=True):
        assert np.isin(np.flatnonzero(ball), eye).all() and len(eye) < 2 * ball.sum()


def test_heads_without_an_eye_or_with_nan_are_refused(head: HeadModel, tmp_path: Path) -> None:
    foreign = gnm.read(write_gnm(head, tmp_path / "gnm_head.npz"))
    out = tmp_path / "out.npz"
    blind = replace(foreign, eyes=(foreign.eyes[0], np.zeros(0, np.int64)))
    with pytest.raises(InputError, match="no vertices of the right eye"):
        convert(blind, head, out)
    identity = foreign.identity.copy()
    identity[0, 5] = np.nan
    with pytest.raises(InputError, match="not finite"):
        convert(replace(foreign, identity=identity), head, out)
    assert not out.exists()


def test_ict_folder_of_another_topology_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / ict.LIGHT, neutral=np.zeros((5, 3)), triangles=np.zeros((1, 3)))
    with pytest.raises(InputError, match="26719"):
        ict.read(tmp_path)


@pytest.mark.skipif(not ICT.is_dir(), reason="ICT-FaceKit is not beside the checkout")
def test_ict_imports_and_is_metric(tmp_path: Path) -> None:
    out = tmp_path / "ict.npz"
    assert main(["model", "import", "ict", str(ICT), "-o", str(out)]) == 0
    assert main(["model", "import", "ict", str(ICT), "-o", str(out)]) == 2  # it exists
    other = load_head(out)
    points = other.landmarks(other.template)[other.ibug68]
    assert 0.085 < np.linalg.norm(points[45] - points[36]) < 0.095  # outer canthi
    indices = json.loads((ICT / "vertex_indices.json").read_text())["idx_to_landmark_verts"]
    with np.load(ICT / ict.LIGHT) as archive:
        own = archive["neutral"][indices] * 0.01
    own = own - own[30] + points[30]
    assert np.linalg.norm(points - own, axis=1)[[36, 39, 42, 45, 30, 33]].max() < 5e-3


def test_landmarks_of_eyes_lie_on_the_layer_that_is_seen() -> None:
    """ICT-FaceKit has an iris behind its cornea; once landmarks lay on that, and were off when the
    eye turned."""
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9)), -1).reshape(-1, 2)
    height = 0.5 - 0.2 * (grid**2).sum(1)
    layers = [np.column_stack([grid, z]) for z in (height, height - 0.3)]
    cell = np.arange(8)[:, None] * 9 + np.arange(8)
    quad = np.stack([cell, cell + 1, cell + 10, cell + 9], -1).reshape(-1, 4)
    half = np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])
    vertices, triangles = np.concatenate(layers), np.concatenate([half, half + len(grid)])
    points = np.array([[0.3, -0.2, 0.1], [-0.55, 0.4, 0.0], [3.0, 0.0, 0.2]])
    corners, weights = _foremost(vertices, triangles, points)
    found = (vertices[corners] * weights[..., None]).sum(1)
    np.testing.assert_allclose(found[:2, :2], points[:2, :2], atol=1e-9)
    assert (corners[:2] < len(grid)).all(), "the foremost layer"
    np.testing.assert_allclose(found[2, 0], 1.0)  # beside all of it: the closest place
