"""rig.yaml: round trip, units, and every way to get it wrong."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from calibration import CalibrationError, Rig, read_rig, write_rig

GOOD: dict[str, Any] = {
    "version": 1,
    "units": "m",
    "up": [0, 1, 0],
    "cameras": {
        "left": {
            "width": 1280,
            "height": 720,
            "model": "opencv",
            "K": [[900, 0, 640], [0, 900, 360], [0, 0, 1]],
            "dist": [0.1, 0.0, 0.0, 0.0, 0.0],
            "T_camera_world": [[1, 0, 0, 10], [0, 1, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]],
            "std": {"focal": 1.2, "center": 0.8, "rotation": 0.001, "translation": 0.5},
        },
        "right": {"width": 1280, "height": 720},
    },
}


def write(path: Path, data: Any) -> Path:
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8")
    return path


def changed(keys: str, value: Any) -> dict[str, Any]:
    """GOOD with one entry, named like cameras/left/K, replaced."""
    data = copy.deepcopy(GOOD)
    *path, last = keys.split("/")
    place = data
    for key in path:
        place = place[key]
    place[last] = value
    return data


def test_round_trip_is_exact(rig: Rig, tmp_path: Path) -> None:
    write_rig(tmp_path / "rig.yaml", rig)
    again = read_rig(tmp_path / "rig.yaml")
    assert list(again.cameras) == list(rig.cameras)
    np.testing.assert_array_equal(again.up, [0, 1, 0])
    for name, camera in rig.cameras.items():
        other = again.cameras[name]
        assert (other.width, other.height, other.model) == (
            camera.width,
            camera.height,
            camera.model,
        )
        assert other.std == camera.std
        for key in ("K", "dist", "T_camera_world"):
            expected = getattr(camera, key)
            if expected is None:
                assert getattr(other, key) is None
            else:
                np.testing.assert_array_equal(getattr(other, key), expected)


@pytest.mark.parametrize(("units", "metres"), [("m", 1.0), ("cm", 0.01), ("mm", 0.001)])
def test_units_scale_translations_and_their_deviation(
    units: str, metres: float, tmp_path: Path
) -> None:
    camera = read_rig(write(tmp_path / "rig.yaml", changed("units", units))).cameras["left"]
    np.testing.assert_allclose(camera.T_camera_world[:3, 3], np.array([10, 20, 30]) * metres)
    assert camera.std["translation"] == pytest.approx(0.5 * metres)
    assert camera.std["focal"] == 1.2
    np.testing.assert_array_equal(camera.K[0], [900, 0, 640])


def test_optional_parts_may_be_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "rig.yaml", "version: 1\ncameras: {a: {width: 4, height: 3}}\n")
    rig = read_rig(path)
    assert rig.up is None
    assert rig.cameras["a"].K is None
    assert rig.cameras["a"].dist.shape == (0,)


def test_names_and_numbers_that_yaml_would_turn_into_something_else(tmp_path: Path) -> None:
    text = "version: 1\ncameras:\n  no: {width: 4, height: 3}\n  01: {width: 4, height: 3,"
    text += " dist: [1e-3, 0, 0, 0]}\n"
    rig = read_rig(write(tmp_path / "rig.yaml", text))
    assert list(rig.cameras) == ["no", "01"]
    assert rig.cameras["01"].dist[0] == 0.001


LEFT_HANDED = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]]
SHEARED = [[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (changed("version", 2), "version is 2"),
        (changed("version", True), "version is True"),
        (changed("units", "inch"), "units is 'inch'; use m, cm or mm"),
        (changed("up", [0, 0, 0]), "up is"),
        (changed("up", "y"), "up is 'y'"),
        (changed("camera", {}), "unknown key 'camera'; did you mean 'cameras'"),
        (changed("cameras", {}), "cameras is empty"),
        (changed("cameras", [1]), "cameras is empty or not a mapping"),
        (changed("cameras/left", 3), "camera 'left': not a mapping"),
        (changed("cameras/a b", {"width": 1, "height": 1}), "camera 'a b': bad name"),
        (changed("cameras/left/widht", 3), "camera 'left': unknown key 'widht'.*'width'"),
        (changed("cameras/left/k", 3), "unknown key 'k'; did you mean 'K'"),
        (changed("cameras/left/width", "1280"), "camera 'left': width is '1280'"),
        (changed("cameras/left/width", None), "camera 'left': width"),
        (changed("cameras/left/height", -1), "camera 'left': height"),
        (changed("cameras/left/model", "fisheye"), "camera 'left': model"),
        (changed("cameras/left/model", [1]), "camera 'left': model"),
        (changed("cameras/left/K", [[1, 2], [3]]), "camera 'left': K"),
        (changed("cameras/left/K", "K"), "camera 'left': K is 'K'"),
        (changed("cameras/left/K", [[1, 0, "a"], [0, 1, 2], [0, 0, 1]]), "holds 'a'"),
        (changed("cameras/left/K", [[1, 0, None], [0, 1, 2], [0, 0, 1]]), "holds None"),
        (changed("cameras/left/K", [[1, 0, True], [0, 1, 2], [0, 0, 1]]), "holds True"),
        (changed("cameras/left/dist", [float("nan"), 0, 0, 0]), "dist holds NaN"),
        (changed("cameras/left/dist", [0, 0]), "dist has 2 numbers"),
        (changed("cameras/left/dist", 0.1), "dist is 0.1"),
        (changed("cameras/left/T_camera_world", LEFT_HANDED), "left-handed"),
        (changed("cameras/left/T_camera_world", SHEARED), "not orthonormal"),
        (changed("cameras/left/T_camera_world", [[1, 0], [0, 1]]), "T_camera_world is 2x2"),
        (changed("cameras/left/std", {"focal": "1"}), "std holds '1'"),
        (changed("cameras/left/std", {"focus": 1}), "unknown key 'focus'"),
        (changed("cameras/left/std", 3), "std is not a mapping"),
        ("", "empty"),
        ("- a\n- b\n", "not a mapping"),
        ("a: [1, 2", "not valid YAML"),
        ("version: 1\nversion: 1\ncameras: {}\n", "'version' appears twice"),
        ("a: &x [1]\nb: *x\n", "alias on line 2"),
        ("a: " + "[" * 50 + "]" * 50, "nested more than"),
        ("[1, 2]: 3\n", "not plain text"),
        ("!!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("version: 1\ncameras: !!python/name:os.system\n", "not valid YAML"),
        ("units: m\n", "not a rig file"),
        ("rig: rig.yaml\n", "this is a take file"),
        ("cameras: {a: a.mp4}\n", "this is a take file"),
        ("version: 0x\x00", "not valid YAML"),
        ("version: 1\nup: 2001-99-99\n", "not valid YAML|not a rig|cameras"),
    ],
)
def test_every_mistake_is_one_line_that_names_the_file(
    data: Any, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "rig.yaml", data)
    with pytest.raises(CalibrationError, match=message) as caught:
        read_rig(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_an_alias_bomb_costs_nothing(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(CalibrationError, match="alias on line 2"):
        read_rig(write(tmp_path / "rig.yaml", "\n".join(lines)))


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no such file"):
        read_rig(tmp_path / "rig.yaml")
    with pytest.raises(CalibrationError, match=r"cannot be read \(a folder, no file\)"):
        read_rig(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(bytes(range(256)))
    with pytest.raises(CalibrationError, match="not a text file"):
        read_rig(binary)
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * 5_000_000)
    with pytest.raises(CalibrationError, match="too large"):
        read_rig(large)


def test_writing_leaves_no_temporary_file(rig: Rig, tmp_path: Path) -> None:
    write_rig(tmp_path / "rig.yaml", rig)
    assert [p.name for p in tmp_path.iterdir()] == ["rig.yaml"]
