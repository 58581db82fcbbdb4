"""Files that are written whole or not at all, and arrays that are read without pickle."""

from __future__ import annotations

import errno
import json
import os
import struct
import tempfile
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.atomic import atomic_path, remove_leftovers
from densefit.errors import InputError

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "atomic_path",
    "check_out_dir",
    "ensure_out_dir",
    "read_json",
    "read_npz",
    "read_npz_array",
    "write_json",
    "write_npz",
    "write_text",
]


NPZ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    AttributeError,
    TypeError,
    NotImplementedError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    SyntaxError,
    tokenize.TokenError,
)
"""What zipfile and numpy, which parses headers as Python, raise on .npz files that are damaged or
claim to hold more than there is."""


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON atomically. NaN and infinity are refused: not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON; InputError names the file when it is missing or damaged."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the name") from error
    except (OSError, ValueError, RecursionError) as error:
        _refuse_unreadable(path, error)
        raise InputError(
            f"{path}: not readable as JSON ({error}); make it again with --overwrite"
        ) from error


def write_npz(path: str | Path, **arrays: np.ndarray) -> None:
    """Write arrays to an uncompressed .npz atomically. Object arrays are refused (pickle)."""
    import numpy as np

    for name, array in arrays.items():
        if np.asarray(array).dtype == object:
            raise TypeError(f"array '{name}' holds Python objects; only plain arrays are written")
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz; InputError when it is missing, damaged or holds pickled data."""
    return _read_npz(Path(path), None)


def read_npz_array(path: str | Path, name: str) -> np.ndarray:
    """Read one array (N, ...) of numbers, without loading the others. Errors as `read_npz`."""
    array = _read_npz(Path(path), name)[name]
    if array.ndim == 0 or array.dtype.kind not in "biuf":
        raise InputError(
            f"{path}: damaged ({name} is no row of numbers); make it again with --overwrite"
        )
    return array


def _read_npz(path: Path, only: str | None) -> dict[str, np.ndarray]:
    import numpy as np

    if not path.is_file():
        raise InputError(
            f"{path}: {'a folder, no' if path.is_dir() else 'no such'} file; check the name"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in ([only] if only else archive.files)}
    except NPZ_ERRORS as error:
        _refuse_unreadable(path, error)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not zipfile.is_zipfile(path):
            reason = "no zip archive"  # numpy takes it for pickled data and advises to load that
        raise InputError(
            f"{path}: damaged or not an .npz file ({reason}); make it again with --overwrite"
        ) from error


def _refuse_unreadable(path: Path, error: Exception) -> None:
    """InputError of its own where the system would not read the file: that may well be a good one.

    Seeking to a place that a damaged archive names is an OSError too, but says EINVAL.
    """
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); it may be good, so check its rights and "
            "the disk before you make it again"
        ) from error


def check_out_dir(path: str | Path) -> None:
    """InputError when `ensure_out_dir` could not make this folder; nothing is written."""
    path = Path(path).absolute()
    there = next(p for p in (path, *path.parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        reason = "not writable" if there.is_dir() else "a file"
        raise InputError(
            f"{path}: cannot be an output folder ({there} is {reason}); choose another"
        )


def ensure_out_dir(path: str | Path) -> Path:
    """Create the output folder if need be and prove that it is writable; InputError otherwise.

    Temporary files that a killed run left there are removed.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        # os.access answers yes to root even on read-only file systems, so a file is really made;
        # under a name of its own, since the cameras' overlays are opened side by side.
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"{path}: cannot write to this output folder ({reason}); choose another"
        ) from error
    return path
