"""The mosaic shows each camera's picture of the same moment, with its landmarks."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from recordings import encode_video, read_number

from densefit.capture import open_frames, open_source
from densefit.landmarks.files import LandmarkTrack
from densefit.report.mosaic import Layout, MosaicCamera, write_label, write_mosaic

FRAMES = 6


def track(valid: bool) -> LandmarkTrack:
    xy = np.full((FRAMES, 703, 2), np.nan, np.float32)
    if valid:
        xy[:] = [200.0, 200.0]
    return LandmarkTrack(
        xy,
        np.full((FRAMES, 703), 0.5, np.float32),
        np.arange(FRAMES) / 25,
        np.full(FRAMES, valid),
        np.tile(np.float32([160, 120, 250, 0, 1]), (FRAMES, 1)),
        "toy",
    )


def test_tiles_show_the_same_moment(tmp_path: Path):
    cameras = []
    for lag, name in enumerate(("left", "right", "back")):
        path = encode_video(tmp_path / f"{name}.mp4", n=FRAMES, size=(320, 240))
        index = np.arange(FRAMES) - lag
        cameras.append(MosaicCamera(name, path, track(name == "left"), np.maximum(index, -1)))
    path = write_mosaic(cameras, 25, tmp_path / "mosaic.mp4")
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    pictures = [frame.image for frame in open_frames(open_source("mosaic", path))]
    assert len(pictures) == FRAMES and pictures[0].shape == (480, 640, 3)
    for frame, picture in enumerate(pictures):
        for lag, (y, x) in enumerate(((0, 0), (0, 320), (240, 0))):
            tile = picture[y : y + 240, x : x + 320]
            if frame >= lag:
                assert read_number(tile) == frame - lag
            else:
                assert tile[120:].mean() < 60, "nothing but the background and the camera's name"
    dot = pictures[3][200, 200].astype(int)
    assert dot[1] > 120 and dot[1] > dot[0] + 60, "a certain landmark is green"


def test_single_frame_is_a_picture(tmp_path: Path):
    import cv2

    picture = np.full((64, 96, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "000000.png"), picture)
    folder = tmp_path / "left_fit"
    folder.mkdir()
    (tmp_path / "000000.png").rename(folder / "000000.png")
    camera = MosaicCamera("left", folder, track(False), np.zeros(1, np.int64))
    path = write_mosaic([camera], 1, tmp_path / "mosaic.png")
    assert cv2.imread(str(path))[50:, 10:80].mean() == pytest.approx(90, abs=2)


@pytest.mark.parametrize("count, columns", [(1, 1), (2, 2), (3, 2), (5, 3), (9, 3), (16, 4)])
def test_layout_fits(count: int, columns: int):
    names = [f"c{i}" for i in range(count)]
    shapes = {n: (1080, 1920) if i % 2 == 0 else (1920, 1080) for i, n in enumerate(names)}
    layout = Layout.of(names, shapes)
    assert layout.width <= 1920 and layout.width % 2 == 0 and layout.height % 2 == 0
    assert len({x // (layout.width // columns) for x, *_ in layout.tiles.values()}) <= columns
    covered = np.zeros((layout.height, layout.width), int)
    for name, (x, y, w, h) in layout.tiles.items():
        covered[y : y + h, x : x + w] += 1
        assert x >= 0 and y >= 0 and x + w <= layout.width and y + h <= layout.height
        assert w / h == pytest.approx(shapes[name][1] / shapes[name][0], rel=0.02)
    assert covered.max() == 1


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(1024, 817), (500, 337), (333, 251)])
def test_odd_pictures_fit(count: int, shape: tuple[int, int]):
    """As photos have them; videos are made even when they are encoded."""
    layout = Layout.of(list("abcde"[:count]), dict.fromkeys("abcde"[:count], shape))
    assert layout.width % 2 == 0 and layout.height % 2 == 0
    for x, y, w, h in layout.tiles.values():
        assert x + w <= layout.width and y + h <= layout.height


def test_labels_have_their_edge_around_them():
    """Bold text of OpenCV 5 is wider, so that it stood beside the letters."""
    canvas = np.full((40, 300, 3), 128, np.uint8)
    write_label(canvas, "liveportrait_d10", (10, 28), 0.6)
    ends = [
        np.flatnonzero(some.any(0))[[0, -1]] for some in (canvas.max(2) > 200, canvas.min(2) < 60)
    ]
    assert np.abs(ends[0] - ends[1]).max() <= 3
