"""--model: damaged and inconsistent head models are refused before anything relies on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densefit.errors import InputError
from densefit.head.model import DEFAULT_ASSET
from densefit.model_file import open_head


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(DEFAULT_ASSET, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def test_a_copy_of_the_shipped_head(tmp_path: Path) -> None:
    copy = tmp_path / "head.npz"
    copy.write_bytes(DEFAULT_ASSET.read_bytes())
    assert open_head(copy).sha256 == open_head().sha256


def with_one(array: np.ndarray, value: Any) -> np.ndarray:
    changed = array.copy()
    changed.reshape(-1)[changed.size // 2] = value
    return changed


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("template", lambda a: a[:-1], "expected|not"),
        ("template", lambda a: with_one(a, np.nan), "template holds NaN"),
        ("template", lambda a: a.astype(np.complex64), "imaginary"),
        ("template", lambda a: np.asarray("text"), "head.npz"),
        ("triangles", lambda a: with_one(a, 10**6), "no index"),
        ("triangles", lambda a: with_one(a, -1), "no index"),
        ("identity_delta", lambda a: a[:, :-1], "identity_basis"),
        ("identity_scale", lambda a: with_one(a, np.inf), "identity_basis holds"),
        ("expression_delta", lambda a: a[:-1], "head.npz"),
        ("skinning", lambda a: a.T, "skinning"),
        ("landmark_vertices", lambda a: with_one(a, 10**6), "no index"),
        ("landmark_weights", lambda a: a[:5], "landmark_weights"),
        ("ibug68", lambda a: with_one(a, 703), "no index"),
        ("joint_centres", lambda a: a[0], "joint_centres"),
        ("uv", None, "uv"),
        ("landmarks_version", None, "lacks landmarks_version"),
        ("part_names", lambda a: a[:1], "triangle_part"),
    ],
)
def test_damaged_models(
    name: str, change: Any, message: str, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "head.npz"
    changed = {**arrays, name: change(arrays[name])} if change else dict(arrays)
    if change is None:
        del changed[name]
    np.savez(path, **changed)
    with pytest.raises(InputError, match=message) as caught:
        open_head(path)
    assert str(path) in str(caught.value) and "--model" in str(caught.value)
