"""fit.npz and meta.json: round trip, and a clear error for each way they can be wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from densefit.errors import InputError
from densefit.fit_file import SHAPES, read_fit
from tests.toy_fit import random_result, toy_head, write_toy_fit


@pytest.fixture(scope="module")
def head():
    return toy_head()


def change_array(path: Path, name: str, value: np.ndarray | None) -> None:
    with np.load(path) as data:
        arrays = {key: data[key] for key in data.files}
    if value is None:
        del arrays[name]
    else:
        arrays[name] = value
    np.savez(path, **arrays)


def change_meta(out: Path, **changes: object) -> None:
    path = out / "meta.json"
    meta = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in meta.items() if v is not None}))


def test_round_trip(tmp_path: Path, head):
    write_toy_fit(tmp_path, head)
    fit = read_fit(tmp_path, head)
    result = random_result(head)
    for name in SHAPES:
        np.testing.assert_allclose(getattr(fit, name), getattr(result, name), rtol=1e-6, atol=1e-7)
    assert list(np.flatnonzero(~fit.posed)) == [3, 4]
    assert fit.fps == 25
    assert read_fit(tmp_path / "fit.npz").n_frames == 9


def test_missing(tmp_path: Path):
    with pytest.raises(InputError, match="fit-rig"):
        read_fit(tmp_path)


def test_missing_meta(tmp_path: Path, head):
    write_toy_fit(tmp_path, head)
    (tmp_path / "meta.json").unlink()
    with pytest.raises(InputError, match="meta.json"):
        read_fit(tmp_path)


def test_truncated(tmp_path: Path, head):
    path = write_toy_fit(tmp_path, head)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="fit.npz"):
        read_fit(tmp_path)


def test_other_model(tmp_path: Path, head):
    write_toy_fit(tmp_path, head)
    with pytest.raises(InputError, match="head model toy"):
        read_fit(tmp_path, replace(head, sha256="cd" * 32))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rotation", None, "rotation missing"),
        ("rotation", np.zeros((9, 4)), "rotation has shape"),
        ("residual_px", np.zeros((9, 3)), "residual_px has shape"),
        ("expression", np.zeros((8, 52)), "expression has shape"),
        ("identity", np.full(5, np.nan), "not finite"),
        ("valid", np.ones(9, bool), "frame 3 is marked valid"),
        ("valid", np.zeros(9), "valid has type"),
        ("time", np.arange(9.0)[::-1], "backwards at frame 1"),
    ],
)
def test_damaged_arrays(tmp_path: Path, head, name, value, message):
    change_array(write_toy_fit(tmp_path, head), name, value)
    with pytest.raises(InputError, match=message):
        read_fit(tmp_path, head)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cameras": None}, "cameras missing"),
        ({"model": "toy"}, "model must be"),
        ({"expression_names": ["jawOpen"]}, "expression has shape"),
        ({"cameras": 2}, "cameras must be a list"),
        ({"cameras": ["left", ["right"]]}, "cameras must be a list"),
        ({"cameras": ["left", "../right"]}, "names no camera"),
        ({"scale": ["prior"]}, "scale is"),
        ({"scale": "large"}, "calibrated or prior"),
        ({"scale_std": "wide"}, "scale_std is 'wide'"),
        ({"up": [0, 1]}, "three numbers"),
        ({"versions": ["1"]}, "versions is"),
    ],
)
def test_damaged_meta(tmp_path: Path, head, changes, message):
    write_toy_fit(tmp_path, head)
    change_meta(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        read_fit(tmp_path, head)


def test_meta_is_not_json(tmp_path: Path, head):
    write_toy_fit(tmp_path, head)
    for text in ("{", "[" * 100_000, "[]"):
        (tmp_path / "meta.json").write_text(text)
        with pytest.raises(InputError, match=r"meta\.json: .*--overwrite"):
            read_fit(tmp_path)
