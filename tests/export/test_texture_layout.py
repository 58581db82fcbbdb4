"""Texture coordinates that give most of a colour map to the face."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from densefit.export.materials import TEXTURED_PARTS
from densefit.export.surface import surface_of
from densefit.export.texture_layout import laid_out_for_texture
from densefit.head import load_head
from densefit.head.model import HeadModel

HEAD = load_head()
LAID_OUT = laid_out_for_texture(HEAD)


def corners(head: HeadModel, *parts: str) -> np.ndarray:
    """(F, 3, 2) of some parts."""
    return head.uv[head.uv_triangles[head.part_triangles(*parts)]].astype(np.float64)


def area(triangles: np.ndarray) -> np.ndarray:
    a, b = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return 0.5 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])


def test_the_face_takes_most_of_the_map():
    before, after = (np.abs(area(corners(h, "skin"))).sum() for h in (HEAD, LAID_OUT))
    assert after > 0.25 > 5 * before
    assert LAID_OUT.uv.min() >= 0 and LAID_OUT.uv.max() <= 1


def test_parts_keep_their_form_and_way_round():
    for name in TEXTURED_PARTS:
        before, after = area(corners(HEAD, name)), area(corners(LAID_OUT, name))
        factor = np.median(after / before)
        assert factor > 0
        np.testing.assert_allclose(after, factor * before, atol=1e-7)


def test_no_part_lies_on_another():
    """As boxes; ears lie in holes of the skin, as they did."""
    boxes = [corners(LAID_OUT, *parts).reshape(-1, 2) for parts in (["skin"], ["scalp"], ["neck"])]
    boxes.append(corners(LAID_OUT, "eyes", "mouth", "teeth", "tongue").reshape(-1, 2))
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart = np.maximum(a.min(0) - b.max(0), b.min(0) - a.max(0)).max()
            assert apart > 0.004


def test_refined_surfaces_have_the_same_layout():
    fine = surface_of(LAID_OUT, 1)
    skin = [HEAD.part_names.index(name) for name in ("skin", "ears")]
    face = fine.uv[fine.uv_triangles[np.isin(fine.triangle_part, skin)]]
    assert face[..., 0].max() < 0.556
    assert fine.uv.min() >= 0 and fine.uv.max() <= 1


def test_a_head_whose_face_has_the_map_to_itself_stays_as_it_is():
    corner = HEAD.uv_triangles[HEAD.part_triangles("skin")]
    uv = HEAD.uv.copy()
    uv[corner] = (uv[corner] - uv[corner].min((0, 1))) / np.ptp(uv[corner], axis=(0, 1))
    large = replace(HEAD, uv=uv)
    assert laid_out_for_texture(large) is large
