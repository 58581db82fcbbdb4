"""Overlays of a whole recording: every picture is there, with a head where the fit has one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from calibration import Camera
from densefit.capture import Frame, open_frames, open_source
from densefit.export.scene import frame_vertices
from densefit.fit_file import read_fit
from densefit.progress import progress
from densefit.report import overlay
from densefit.report.overlay import (
    Counter,
    HeadCache,
    OverlayJob,
    run_together,
    write_overlay_pictures,
    write_overlay_video,
)
from tests.toy_fit import toy_head, write_toy_fit

WIDTH, HEIGHT, FRAMES = 160, 120, 9
CAMERA = Camera(
    "left",
    WIDTH,
    HEIGHT,
    K=[[100.0, 0, 80], [0, 100, 60], [0, 0, 1]],
    T_camera_world=np.eye(4),
)


@pytest.fixture
def fit(tmp_path):
    write_toy_fit(tmp_path, toy_head())
    return read_fit(tmp_path)


def grey_frames(width: int = WIDTH, height: int = HEIGHT):
    for i in range(FRAMES + 1):
        yield Frame(i, i / 25, np.full((height, width, 3), 100, np.uint8))


def job(fit, master: list[int]) -> OverlayJob:
    source = SimpleNamespace(name="left", width=WIDTH, height=HEIGHT)
    return OverlayJob(source, CAMERA, np.array(master), fit, toy_head())


@pytest.fixture
def counter():
    with progress(None, "overlay") as bar:
        yield Counter(bar)


def is_painted(image: np.ndarray) -> bool:
    return bool((np.abs(image.astype(int) - 100) > 25).sum() > 50)


def test_video_has_every_picture_and_heads_where_the_fit_has_them(fit, tmp_path, counter):
    """Frames 0 and 1 precede the fit, its frames 3 and 4 have no head, one frame follows it."""
    master = [-1, -1, 0, 1, 2, 3, 4, 5, 6]
    path = write_overlay_video(job(fit, master), grey_frames(), tmp_path / "o.mp4", 25, counter)
    frames = list(open_frames(open_source("left", path)))
    painted = [is_painted(frame.image) for frame in frames]
    assert painted == [False, False, True, True, True, False, False, True, True, False]


def test_pictures_stay_in_order_whatever_the_threads(fit, monkeypatch):
    """Batches are painted beside one another."""
    monkeypatch.setattr(overlay, "BATCH", 2)
    master = [-1, 0, 1, 2, 3, 4, 5, 6]
    alone, together = (
        list(overlay.painted(job(fit, master), grey_frames(), threads=n)) for n in (1, 3)
    )
    assert [number for number, _ in together] == list(range(FRAMES + 1))
    for (_, one), (_, other) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_photos_of_another_size_are_drawn_on_alike(fit, tmp_path, counter):
    cv2 = pytest.importorskip("cv2")
    folder = tmp_path / "pictures"
    large_frames = grey_frames(2 * WIDTH, 2 * HEIGHT)
    small = write_overlay_pictures(job(fit, [0]), grey_frames(), folder, counter)
    large = write_overlay_pictures(job(fit, [0]), large_frames, tmp_path / "large", counter)
    assert [p.name for p in small][:2] == ["000000.png", "000001.png"]
    one, two = (cv2.imread(str(files[0])).astype(int) for files in (small, large))
    areas = [(np.abs(image - 100) > 3).any(axis=2).sum() for image in (one, two)]
    assert areas[1] / areas[0] == pytest.approx(4, rel=0.15)


def test_interrupted_video_leaves_nothing(fit, tmp_path, counter):
    def interrupted():
        yield from list(grey_frames())[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_overlay_video(job(fit, [0] * 9), interrupted(), tmp_path / "o.mp4", 25, counter)
    assert not list(tmp_path.glob("*.mp4"))


def test_cameras_work_together_and_stop_together(fit, tmp_path):
    def endless():
        while True:
            yield next(grey_frames())

    def fails(counter):
        counter.advance()
        raise ValueError("this camera broke")

    def goes_on(counter):
        return write_overlay_video(job(fit, [0]), endless(), tmp_path / "o.mp4", 25, counter)

    threads = torch.get_num_threads()
    paths = [tmp_path / "a", tmp_path / "b"]
    assert run_together([lambda c: paths[0], lambda c: paths[1]], 0) == paths
    torch.set_num_threads(2)
    with pytest.raises(ValueError, match="broke"):
        run_together([fails, goes_on], 10)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert not list(tmp_path.glob("*.mp4"))


def test_cache_gives_the_vertices_of_any_frame(fit):
    cache = HeadCache(fit, toy_head())
    expected = frame_vertices(fit, toy_head())
    for frame in (0, 8, 2):
        np.testing.assert_allclose(cache.vertices(frame), expected[frame], atol=1e-6)
