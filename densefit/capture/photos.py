"""Single pictures: upright, 8 bit RGB, whatever the file holds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from densefit.capture.orientation import UPRIGHT, Orientation, orientation_of, oriented
from densefit.errors import InputError
from densefit.progress import warn

PHOTO_SUFFIXES = frozenset(
    ".jpg .jpeg .png .bmp .tif .tiff .webp .ppm .pgm .pnm .jp2 .avif .hdr".split()
)

# Pictures that a camera or a program may leave among those that are read.
_OTHER_SUFFIXES = frozenset(
    ".heic .heif .hif .gif .jfif .jxl .dng .cr2 .cr3 .nef .arw .raf .orf .rw2 .exr .tga".split()
)

MAX_PIXELS = 128_000_000
"""Larger pictures are refused: a file of a few kB may claim to hold a billion pixels."""

_UNREADABLE = (
    "not a picture that can be decoded: cut off or damaged, or of a kind that is not read "
    "(floating-point or Lab TIFF, animated WebP)"
)


def is_photo(path: Path) -> bool:
    """Whether the file's name says that it is a single picture."""
    return path.suffix.lower() in PHOTO_SUFFIXES


def pictures_in(folder: Path) -> tuple[Path, ...]:
    """The pictures of a folder sorted by name, numbers by value (img2 before img10).

    Warns of pictures beside them of types that are not read.
    """
    every = [f for f in folder.iterdir() if f.is_file() and f.name[0] != "."]
    files = [f for f in every if is_photo(f)]
    left = Counter(f.suffix.lower() for f in every if f.suffix.lower() in _OTHER_SUFFIXES)
    if files and left:
        kinds = ", ".join(f"{n} {suffix}" for suffix, n in sorted(left.items()))
        warn(f"{folder}: pictures of types that are not read are left out ({kinds}); convert them")
    return tuple(sorted(files, key=_natural_order))


def warn_of_holes(folder: Path, files: Sequence[Path]) -> None:
    """Warn where the numbers in the names of a film's pictures skip some.

    Args:
        folder: named in the warning.
        files: the pictures in order.
    """
    names = [re.fullmatch(r"(.*?)(\d+)(\D*)", file.stem) for file in files]
    matches = [name for name in names if name]
    if len(matches) < len(files) or len({(name[1], name[3]) for name in matches}) != 1:
        return
    numbers = [int(name[2]) for name in matches]
    steps = [after - before for before, after in zip(numbers, numbers[1:], strict=False)]
    # Numbers that go up unevenly throughout, such as times, are not counted one by one.
    if not steps or min(steps) <= 0 or sorted(steps)[len(steps) // 2] != min(steps):
        return
    missing = sum(step // min(steps) - 1 for step in steps)
    if missing:
        before = next(file for file, step in zip(files, steps, strict=False) if step > min(steps))
        warn(
            f"{folder}: {missing} of the numbers in the pictures' names are missing, the first "
            f"after {before.name}; the pictures are taken to follow one another without a gap"
        )


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
        (H, W, 3) uint8 RGB, turned upright by its EXIF orientation or AVIF's own. 16 bit is scaled
        to 8, transparency dropped, high dynamic range exposed for its median and encoded as sRGB.
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
        raise InputError(f"{path}: {_UNREADABLE}; copy it again or convert it to PNG or JPEG")
    if image.dtype != np.uint8:
        image = _expose(image)
    return oriented(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), _avif_orientation(path, data))


def _avif_orientation(path: Path, data: np.ndarray) -> Orientation:
    """What OpenCV leaves undone: AVIF is turned and mirrored by properties of its own."""
    import av

    head = data[: 1 << 16].tobytes()
    if head[4:10] != b"ftypav" or not (b"irot" in head or b"imir" in head):
        return UPRIGHT
    try:
        with av.open(str(path.absolute()), options={"max_pixels": str(MAX_PIXELS)}) as container:
            return orientation_of(next(container.decode(video=0)))
    except (av.FFmpegError, OSError, ValueError, StopIteration):
        return UPRIGHT


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
            f"{path}: {_UNREADABLE}, or larger than {MAX_PIXELS // 10**6} megapixels; copy it "
            "again or convert it to an 8 bit PNG or JPEG"
        )


def _expose(radiance: np.ndarray) -> np.ndarray:
    """Linear float radiance -> uint8 sRGB with the median at middle grey."""
    radiance = np.nan_to_num(radiance.astype(np.float32), posinf=0.0, neginf=0.0).clip(0)
    middle = float(np.median(radiance))
    linear = np.minimum(radiance * (0.18 / middle if middle > 0 else 1.0), 1.0)
    encoded = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255 + 0.5).astype(np.uint8)
