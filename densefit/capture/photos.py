"""Single pictures: upright, 8 bit RGB, whatever the file holds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from densefit.errors import InputError

PHOTO_SUFFIXES = frozenset(
    ".jpg .jpeg .png .bmp .tif .tiff .webp .ppm .pgm .pnm .jp2 .avif .hdr".split()
)


MAX_PIXELS = 128_000_000
"""Larger pictures are refused: a file of a few kB may claim to hold a billion pixels."""


def is_photo(path: Path) -> bool:
    """Whether the file's name says that it is a single picture."""
    return path.suffix.lower() in PHOTO_SUFFIXES


def pictures_in(folder: Path) -> tuple[Path, ...]:
    """The pictures of a folder sorted by name, numbers by value (img2 before img10)."""
    files = [f for f in folder.iterdir() if is_photo(f) and f.is_file() and f.name[0] != "."]
    return tuple(sorted(files, key=_natural_order))


def _natural_order(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(p), p) if p.isdigit() else (1, 0, p) for p in parts]


def looks_like_picture(path: Path) -> bool:
    """Whether the file begins like a picture; quick, so that whole folders can be checked."""
    import cv2

    return bool(cv2.haveImageReader(str(path)))


def read_photo(path: Path) -> np.ndarray:
    """Read a picture.

    Returns:
        (H, W, 3) uint8 RGB, turned upright by its EXIF orientation. 16 bit is scaled to 8,
        transparency dropped, high dynamic range exposed for its median and encoded as sRGB.
    Raises:
        InputError: not a picture, or damaged.
    """
    import cv2

    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its rights") from error
    _check_size(path)
    flags = cv2.IMREAD_COLOR
    if path.suffix.lower() == ".hdr":
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    image = None
    if len(data):
        try:
            image = cv2.imdecode(data, flags)
        except cv2.error:  # some decoders raise where others return nothing
            image = None
    if image is None:
        raise InputError(f"{path}: not a picture that can be decoded; convert it to PNG or JPEG")
    if image.dtype != np.uint8:
        image = _expose(image)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _check_size(path: Path) -> None:
    """InputError for a picture of more than MAX_PIXELS, told from its header."""
    import av

    try:
        with av.open(str(path.absolute()), options={"max_pixels": str(MAX_PIXELS)}) as container:
            sizes = [stream.codec_context.width for stream in container.streams.video]
    except (av.FFmpegError, OSError, ValueError, AttributeError):
        return  # of a kind that only OpenCV knows, which has a limit of its own
    if sizes == [0]:
        raise InputError(
            f"{path}: not a picture that can be decoded: damaged, or larger than "
            f"{MAX_PIXELS // 10**6} megapixels; convert it to a smaller PNG or JPEG"
        )


def _expose(radiance: np.ndarray) -> np.ndarray:
    """Linear float radiance -> uint8 sRGB with the median at middle grey."""
    radiance = np.nan_to_num(radiance.astype(np.float32), posinf=0.0, neginf=0.0).clip(0)
    middle = float(np.median(radiance))
    linear = np.minimum(radiance * (0.18 / middle if middle > 0 else 1.0), 1.0)
    encoded = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255 + 0.5).astype(np.uint8)
