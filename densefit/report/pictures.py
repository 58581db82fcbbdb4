"""The report's pictures: frames with landmarks and mesh drawn on them, and the head at rest."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np

from calibration import Camera
from densefit.errors import InputError
from densefit.export.scene import frame_vertices, neutral_vertices
from densefit.landmarks.overlay import draw_landmarks
from densefit.landmarks.slices import frame_of
from densefit.picture_size import picture_camera
from densefit.progress import warn
from densefit.report.evidence import Evidence
from densefit.report.painter import HeadPainter, PainterOptions

SIDE = 300
"""px of the square pictures in the page."""
MARGIN = 1.25
"""Side of what is shown over the side of the face's square."""
SHADED = PainterOptions(opacity=0.85, line_opacity=0.0, raster_side=480, curves=False)
WIRE = PainterOptions(
    opacity=0.0,
    line_opacity=0.9,
    raster_side=640,
    wire_from=0.0,
    wire_share=1.0,
    line_rgb=(0.45, 0.95, 1.0),
    curves=False,
)
PLAIN = PainterOptions(opacity=1.0, line_opacity=0.0, raster_side=640, curves=False)


@dataclass(frozen=True)
class FramePictures:
    """One frame of one camera in three views, as data URIs."""

    camera: str
    which: str
    """worst, median, best, or only."""
    frame: int
    residual_px: float
    landmarks: str
    wire: str
    shaded: str


def telling_frames(residual_px: np.ndarray) -> dict[str, int]:
    """Frames (of (T,), NaN where unseen) with the worst, the median and the best residual.

    A camera with a single frame has that `only`.
    """
    seen = np.flatnonzero(np.isfinite(residual_px))
    if not len(seen):
        return {}
    order = seen[np.argsort(residual_px[seen], kind="stable")]
    if len(seen) == 1:
        return {"only": int(seen[0])}
    names = {"worst": order[-1], "median": order[(len(order) - 1) // 2], "best": order[0]}
    chosen: dict[str, int] = {}
    for which, frame in names.items():
        if int(frame) not in chosen.values():
            chosen[which] = int(frame)
    return chosen


def frame_pictures(evidence: Evidence) -> list[FramePictures]:
    """Of every camera; none of those whose recording is gone (with a warning)."""
    made: list[FramePictures] = []
    if evidence.footage is None:
        return made
    painters = {
        "wire": HeadPainter(evidence.head, WIRE),
        "shaded": HeadPainter(evidence.head, SHADED),
    }
    for column, name in enumerate(evidence.cameras):
        camera = evidence.known_camera(name)
        chosen = telling_frames(evidence.fit.residual_px[:, column])
        if camera is None or not chosen:
            continue
        which = {frame: word for word, frame in chosen.items()}
        try:
            for frame, image in evidence.footage.pictures(name, sorted(which)):
                made.append(_one_frame(evidence, painters, camera, frame, which[frame], image))
        except InputError as error:
            warn(f"report: no pictures of camera {name} ({error})")
    order = ["only", "worst", "median", "best"]
    names = evidence.cameras
    return sorted(made, key=lambda p: (names.index(p.camera), order.index(p.which)))


def _one_frame(
    evidence: Evidence,
    painters: dict[str, HeadPainter],
    camera: Camera,
    frame: int,
    which: str,
    image: np.ndarray,
) -> FramePictures:
    fit, name = evidence.fit, camera.name
    sized = picture_camera(camera, image.shape[1], image.shape[0])
    vertices = frame_vertices(fit, evidence.head, np.array([frame]))[0]
    row, marked = evidence.row(name, frame), image.copy()
    if row >= 0:
        track = evidence.tracks[name]
        draw_landmarks(marked, *frame_of(track, row))
        box = track.roi[row, :3].astype(float)
    else:
        pixels = sized.project(evidence.head.landmarks(vertices.astype(np.float64)))
        pixels = pixels[np.isfinite(pixels).all(1)]
        middle = (pixels.min(0) + pixels.max(0)) / 2
        box = np.array([*middle, float(np.ptp(pixels, axis=0).max())])
    drawn = {key: painter.draw(image, vertices, sized) for key, painter in painters.items()}
    column = evidence.cameras.index(name)
    return FramePictures(
        name,
        which,
        frame,
        float(fit.residual_px[frame, column]),
        *(data_uri(crop(p, box, SIDE)) for p in (marked, drawn["wire"], drawn["shaded"])),
    )


def crop(image: np.ndarray, box: np.ndarray, side: int) -> np.ndarray:
    """(side, side, 3): the square round box = (centre x, centre y, side px), grey outside."""
    import cv2

    scale = side / (box[2] * MARGIN)
    # Pictures are made smaller in two steps, because warping alone would alias.
    ratio = 1.0
    if scale < 0.5:
        ratio = 2 * scale
        image = cv2.resize(image, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    centre = (box[:2] + 0.5) * ratio - 0.5  # pixel centres are at integers
    step = scale / ratio
    offset = (side - 1) / 2 - step * centre
    matrix = np.array([[step, 0, offset[0]], [0, step, offset[1]]])
    return cv2.warpAffine(
        image,
        matrix,
        (side, side),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(128, 128, 128),
    )


def identity_views(evidence: Evidence, side: int = SIDE) -> dict[str, str]:
    """The person at rest from the front, from between, and from the side, as data URIs."""
    painter = HeadPainter(evidence.head, PLAIN)
    vertices = neutral_vertices(evidence.fit, evidence.head)
    # The face fills the picture; shoulders and the neck's end do not matter.
    centre = np.array([0.0, -0.02, -0.06])
    views = {}
    for title, angle in (("front", 0.0), ("three quarters", 0.7), ("profile", np.pi / 2)):
        camera = orbit_camera(centre, angle, 1.2, side)
        background = np.full((side, side, 3), 244, np.uint8)
        views[title] = data_uri(painter.draw(background, vertices, camera))
    return views


def orbit_camera(centre: np.ndarray, angle: float, distance: float, side: int) -> Camera:
    """A camera that looks at `centre` of the head frame from `angle` rad to the subject's left."""
    c, s = np.cos(angle), np.sin(angle)
    # Rows: the camera's x, y (down) and z (towards the head) in the head frame.
    rotation = np.array([[c, 0, -s], [0, -1, 0], [-s, 0, -c]])
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = -rotation @ centre + [0, 0, distance]
    focal = side * distance / 0.34  # 34 cm of the world span the picture
    k = np.array([[focal, 0, (side - 1) / 2], [0, focal, (side - 1) / 2], [0, 0, 1]])
    return Camera("view", side, side, "opencv", k, np.zeros(0), transform)


def data_uri(image: np.ndarray, quality: int = 85) -> str:
    """(H, W, 3) uint8 RGB as a JPEG inside a URI."""
    import cv2

    good, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert good, "OpenCV always has a JPEG encoder"
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
