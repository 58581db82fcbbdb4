"""All formats, and how one is recognized."""

from __future__ import annotations

from pathlib import Path

from calibration.errors import CalibrationError
from calibration.formats import colmap, datasets, toml_tables
from calibration.formats.common import Format, ReadOptions, begins
from calibration.formats.kalibr import KALIBR
from calibration.formats.metashape import METASHAPE
from calibration.formats.nerfstudio import NERFSTUDIO
from calibration.formats.opencv_storage import EASYMOCAP, OPENCV
from calibration.keys import suggestion
from calibration.rig import METRES, Rig, read_rig, write_rig

# What readers of many formats meet in damaged files: text where numbers belong, lists where tables
# do, and tables without their keys.
_DAMAGED = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip


def _is_rig_yaml(path: Path) -> bool:
    text = begins(path)
    return path.suffix.lower() in (".yaml", ".yml") and "cameras:" in text and "%YAML" not in text


def _read_own(path: Path, options: ReadOptions) -> Rig:
    rig = read_rig(path)
    options.metres_per_unit(METRES[rig.units], "it")
    return rig


DENSEFIT = Format(
    "densefit",
    "rig.yaml of densefit",
    _is_rig_yaml,
    _read_own,
    write_rig,
    "rig.yaml",
    suffixes=(".yaml", ".yml"),
)

# Most specific first: the first that recognizes a file reads it.
FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        DENSEFIT,
        toml_tables.CALISCOPE,
        toml_tables.FREEMOCAP,
        toml_tables.POSE2SIM,
        toml_tables.ANIPOSELIB,
        EASYMOCAP,
        OPENCV,
        colmap.COLMAP_TEXT,
        colmap.COLMAP_BINARY,
        NERFSTUDIO,
        datasets.NERSEMBLE_SHARED,
        datasets.NERSEMBLE,
        datasets.MULTIFACE,
        datasets.FACESCAPE,
        KALIBR,
        METASHAPE,
    )
}


def format_of(path: str | Path) -> Format:
    """The format of a file or folder, by its content.

    Raises:
        CalibrationError: missing, or of no known format.
    """
    path = Path(path)
    if not path.exists():
        raise CalibrationError(f"{path}: no such file or folder; expected a calibration")
    for candidate in FORMATS.values():
        try:
            if candidate.recognizes(path):
                return candidate
        except CalibrationError as error:
            raise CalibrationError(_at(path, error)) from error
        except _DAMAGED:
            continue  # it only looked like that format
    if (path / DENSEFIT.target).is_file():
        raise CalibrationError(f"{path}: a folder; give {path / DENSEFIT.target}")
    known = ", ".join(FORMATS)
    raise CalibrationError(
        f"{path}: holds no calibrated camera in a format that is known ({known}); say which with "
        "--from"
    )


def read_any(path: str | Path, options: ReadOptions | None = None, name: str | None = None) -> Rig:
    """Read a rig of any format, in metres.

    Args:
        options: what the file leaves open.
        name: the format, a key of FORMATS; default: recognized.
    Raises:
        CalibrationError: one line that names file, camera and what to do.
    """
    path = Path(path)
    chosen = format_of(path) if name is None else named(name)
    options = options or ReadOptions()
    try:
        rig = chosen.read(path, options)
        options.agree(rig)
        return rig
    except CalibrationError as error:
        raise CalibrationError(_at(path, error)) from error
    except _DAMAGED as error:
        raise CalibrationError(
            f"{path}: damaged, or not {chosen.what} ({_reason(error)}); export it again"
        ) from error


def write_any(path: str | Path, rig: Rig, name: str) -> None:
    """Write a rig in a format, a key of FORMATS."""
    named(name).write(Path(path), rig)


def named(name: str) -> Format:
    """A format by its name; CalibrationError with the nearest one otherwise."""
    if name not in FORMATS:
        raise CalibrationError(f"format '{name}': unknown{suggestion(name, FORMATS)}")
    return FORMATS[name]


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{text} is missing" if isinstance(error, KeyError) else text


def _at(path: Path, error: CalibrationError) -> str:
    """The message with its file, once, and with a remedy where it names none."""
    text = str(error)
    text = text if text.startswith(str(path)) else f"{path}: {text}"
    return text if ";" in text else f"{text}; mend it or export it again"
