"""Pictures without faces and panoramas, packed: `python -m densefit.synth.pack FOLDER -o FILE.npz`.

Folders of pictures need OpenCV, which reads them. A packed file takes their place in
`--environments` and `--backgrounds` where there is only torch and numpy: one array (H, W, 3)
float16 of linear light for each picture, under its name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import torch

from densefit.errors import InputError
from densefit.files import read_npz, write_npz
from densefit.module_main import exit_code

PANORAMA_SUFFIXES = frozenset({".hdr", ".exr"})
PICTURE_SUFFIXES = PANORAMA_SUFFIXES | {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
LARGEST_SIDE = 2048
"""px: larger pictures are averaged down when they are packed; crops of them have 176."""


def linear_pictures(
    place: Path, suffixes: Collection[str], deep: bool = False
) -> Iterator[tuple[str, np.ndarray | None]]:
    """Names and pictures (H, W, 3) float32 RGB in linear light; None for what cannot be read.

    Args:
        place: a folder, or a file that this module has packed.
        suffixes: of the files that count; deep: in folders below as well.
    Raises:
        InputError: no such place, or a folder where OpenCV is missing.
    """
    if place.suffix == ".npz":
        for name, picture in read_npz(place).items():
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype.kind != "f":
                raise InputError(
                    f"{place}: {name} is no picture; pack it with python -m densefit.synth.pack"
                )
            if Path(name).suffix.lower() in suffixes:
                yield name, picture.astype(np.float32)
        return
    if not place.is_dir():
        raise InputError(f"{place}: no such folder of pictures; check the name")
    paths = (p for p in sorted(place.glob("**/*" if deep else "*")) if p.is_file())
    for path in paths:
        if path.suffix.lower() in suffixes:
            yield str(path), _read(path)


def _read(path: Path) -> np.ndarray | None:
    try:
        import cv2
    except ImportError as error:
        raise InputError(
            f"{path.parent}: pictures are read by OpenCV, which is missing here ({error}); pip "
            "install opencv-python, or pack the folder where it is there (python -m "
            "densefit.synth.pack FOLDER -o FILE.npz) and give the packed file"
        ) from error
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3:
        return None
    picture = picture[..., 2::-1]
    # 8-bit pictures become linear light, so that one exposure step serves both kinds.
    linear = picture if picture.dtype == np.float32 else (picture / 255.0) ** 2.2
    return np.ascontiguousarray(linear, dtype=np.float32)


def shrunk(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) float32 averaged down to (height, width, 3) float32."""
    try:
        import cv2
    except ImportError:
        tensor = torch.from_numpy(picture).permute(2, 0, 1)[None]
        small = torch.nn.functional.interpolate(tensor, (height, width), mode="area")[0]
        return small.permute(1, 2, 0).numpy()
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)


def pack(folder: Path, out: Path) -> int:
    """Write the pictures of a folder into one file; returns how many.

    Raises:
        InputError: there is none, or OpenCV is missing.
    """
    arrays = {}
    for name, picture in linear_pictures(folder, PICTURE_SUFFIXES, deep=True):
        if picture is not None:
            arrays[str(Path(name).relative_to(folder))] = _packed(picture)
    if not arrays:
        raise InputError(f"{folder}: no pictures here")
    write_npz(out, **arrays)
    return len(arrays)


def _packed(picture: np.ndarray) -> np.ndarray:
    """As float16, which holds up to 65,504: more than what panoramas are clipped to."""
    height, width = picture.shape[:2]
    scale = LARGEST_SIDE / max(height, width)
    if scale < 1:
        picture = shrunk(picture, max(1, round(height * scale)), max(1, round(width * scale)))
    return picture.clip(0, np.finfo(np.float16).max).astype(np.float16)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and pack."""
    parser = argparse.ArgumentParser(prog="python -m densefit.synth.pack", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of pictures or panoramas")
    parser.add_argument("-o", "--out", type=Path, required=True, help="file to write (.npz)")
    chosen = parser.parse_args(arguments)
    return exit_code(lambda: print(f"{chosen.out}: {pack(chosen.folder, chosen.out)} pictures"))


if __name__ == "__main__":
    sys.exit(main())
