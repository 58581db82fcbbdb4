"""take.yaml and the other ways to name inputs: what they mean, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from recordings import HEIGHT, WIDTH, MakeVideo

from calibration import Camera, Rig, write_rig
from densefit.capture import load_take
from densefit.errors import InputError, UsageError

K = np.array([[100.0, 0, 47.5], [0, 100, 31.5], [0, 0, 1]])


@pytest.fixture
def folder(tmp_path: Path, make_video: MakeVideo) -> Path:
    """left.mp4, right.mp4 and a rig.yaml with left, right and a camera that takes no part."""
    for name in ("left", "right"):
        make_video(f"{name}.mp4", n=10)
    cameras = [Camera(n, WIDTH, HEIGHT, K=K, T_camera_world=np.eye(4)) for n in ("left", "right")]
    cameras.append(Camera("spare", WIDTH, HEIGHT))
    write_rig(tmp_path / "rig.yaml", Rig({camera.name: camera for camera in cameras}))
    return tmp_path


def write_take(folder: Path, **changes: Any) -> Path:
    data = {
        "rig": "rig.yaml",
        "cameras": {"left": "left.mp4", "right": "right.mp4"},
        **changes,
    }
    path = folder / "take.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not None}))
    return path


def test_take_file(folder: Path) -> None:
    path = write_take(
        folder, sync="pts", offsets={"right": "2f", "left": -0.5}, clock_rates={"right": 1.00001}
    )
    for given in (path, folder):
        take = load_take([given])
        assert list(take.sources) == ["left", "right"]
        assert take.name == folder.name
        assert take.sync == "pts"
        assert take.offsets == {"left": -0.5, "right": pytest.approx(2 / 25)}
        assert take.clock_rates == {"left": 1.0, "right": 1.00001}
        assert take.rig is not None
        np.testing.assert_array_equal(take.camera("left").K, K)


def test_rig_and_videos(folder: Path) -> None:
    take = load_take([folder / "rig.yaml", folder / "right.mp4", folder / "left.mp4"])
    assert take.name == folder.name
    assert list(take.sources) == ["right", "left"]
    assert take.sync == "auto"


def test_one_video_has_a_camera_of_unknown_focal_length(folder: Path) -> None:
    take = load_take([folder / "left.mp4"])
    camera = take.camera("left")
    assert take.rig is None
    assert (camera.width, camera.height, camera.K) == (WIDTH, HEIGHT, None)


def test_a_smaller_video_scales_the_calibration(folder: Path, make_video: MakeVideo) -> None:
    make_video("left.mp4", n=5, size=(WIDTH // 2, HEIGHT // 2))
    camera = load_take([write_take(folder)]).camera("left")
    np.testing.assert_allclose(camera.K, [[50, 0, 23.5], [0, 50, 15.5], [0, 0, 1]])


def refused(inputs: list[Path], **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_take(inputs, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_phone_held_upright_is_calibrated_as_it_is_shown(
    folder: Path, make_video: MakeVideo
) -> None:
    """The calibration is of the upright picture; that of the sensor's own is another aspect."""
    make_video("left.mp4", n=5, rotation=90)
    assert f"{HEIGHT}x{WIDTH}" in refused([write_take(folder)])
    upright = np.array([[100.0, 0, 31.5], [0, 100, 47.5], [0, 0, 1]])
    cameras = {"left": Camera("left", HEIGHT, WIDTH, K=upright, T_camera_world=np.eye(4))}
    cameras["right"] = Camera("right", WIDTH, HEIGHT, K=K, T_camera_world=np.eye(4))
    write_rig(folder / "rig.yaml", Rig(cameras))
    camera = load_take([write_take(folder)]).camera("left")
    assert (camera.width, camera.height) == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(camera.K, upright)


def test_a_video_of_another_aspect_is_refused_at_once(folder: Path, make_video: MakeVideo) -> None:
    make_video("left.mp4", n=5, size=(96, 96))
    message = refused([write_take(folder)])
    assert "left.mp4" in message
    assert "96x64" in message
    assert "96x96" in message


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"cameras": {"middle": "left.mp4"}}, ["take.yaml", "'middle' is not in the rig"]),
        ({"cameras": {"lefft": "left.mp4"}}, ["did you mean 'left'"]),
        ({"cameras": {"left": "none.mp4"}}, ["none.mp4", "no such file", "'left'"]),
        ({"cameras": {"left": 3}}, ["camera 'left' is 3"]),
        ({"cameras": {"a b": "left.mp4"}}, ["bad camera name"]),
        ({"cameras": {}}, ["cameras is empty"]),
        ({"cameras": None}, ["cameras is empty"]),
        ({"camera": {}}, ["unknown key 'camera'", "'cameras'"]),
        ({"rig": "other.yaml"}, ["other.yaml", "no such file"]),
        ({"rig": None}, ["several cameras need"]),
        ({"rig": 5}, ["rig is 5"]),
        ({"sync": "stars"}, ["sync is 'stars'"]),
        ({"sync": "times.csv"}, ["times.csv", "no such file"]),
        ({"sync": "timecode"}, ["left.mp4", "no timecode"]),
        ({"offsets": {"middle": 1}}, ["offsets", "unknown key 'middle'"]),
        ({"offsets": {"left": "2 frames"}}, ["offset of camera 'left'"]),
        ({"offsets": {"left": float("nan")}}, ["offset of camera 'left'"]),
        ({"offsets": 3}, ["offsets is 3"]),
        ({"clock_rates": {"left": 0.5}}, ["clock rate of camera 'left'"]),
        ({"clock_rates": {"left": "1"}}, ["clock rate of camera 'left'"]),
        ({"units": "m"}, ["this is a rig file"]),
    ],
)
def test_mistakes_in_take_files(changes: dict[str, Any], parts: list[str], folder: Path) -> None:
    message = refused([write_take(folder, **changes)])
    for part in parts:
        assert part in message


def test_mistakes_in_the_rig_are_input_errors_that_name_it(folder: Path) -> None:
    (folder / "rig.yaml").write_text("version: 1\ncameras: {left: {width: 9, hight: 9}}\n")
    message = refused([write_take(folder)])
    assert str(folder / "rig.yaml") in message
    assert "did you mean 'height'" in message


def test_mistakes_in_lists_of_inputs(folder: Path, make_video: MakeVideo) -> None:
    rig, left = folder / "rig.yaml", folder / "left.mp4"
    assert "rig" in refused([left, folder / "right.mp4"])
    assert "this is a rig file" in refused([rig])
    assert "'middle' is not in the rig" in refused([rig, make_video("middle.mp4", n=2)])
    assert "a second recording" in refused([rig, left, left])
    assert "no input" in refused([])
    assert "no such file" in refused([folder / "none.yaml"])


def test_sync_can_be_replaced(folder: Path) -> None:
    path = write_take(folder, sync="pts")
    assert load_take([path], sync="frames").sync == "frames"
    with pytest.raises(UsageError, match="--sync never: use auto"):
        load_take([path], sync="never")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("cam_id,time\nleft,0\n", "no column 'frame_time'"),
        ("cam_id,frame_time\nleft,0\n", "no rows for camera 'right'"),
        ("cam_id,frame_time\nleft,zero\n", "line 2: not numbers"),
        ("cam_id,frame_time\nleft,nan\n", "line 2: holds NaN"),
        ("cam_id,frame_time\nleft,1\nleft,1\nright,1\n", "does not increase"),
        ("", "no column"),
        (f"cam_id,frame_time,sync_index\nleft,1,1{30 * '0'}\n", "line 2: sync_index"),
    ],
)
def test_mistakes_in_sync_tables(table: str, message: str, folder: Path) -> None:
    (folder / "times.csv").write_text(table)
    assert message in refused([write_take(folder, sync="times.csv")])
