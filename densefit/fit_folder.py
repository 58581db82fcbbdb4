"""Which files of an output folder are a fit's; nothing else is replaced or removed there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.camera import NAME_PATTERN
from densefit.errors import InputError
from densefit.export.formats import FORMATS
from densefit.files import read_json
from densefit.fit_file import FORMAT
from densefit.input_files import files_of, refuse_replacing
from densefit.progress import warn

if TYPE_CHECKING:
    from densefit.capture import Take

PARTS = ".fit_parts"
"""Folder in the output folder for finished steps of a fit that is not done."""

_WRITTEN_ANEW = ("rig.yaml", "sync.yaml", "meta.json")
# fit.npz first: without it nobody takes the rest for a whole fit.
_SINGLE = (
    "fit.npz",
    "footage.npz",
    "report.html",
    "meshes/neutral.ply",
    "overlay/mosaic.mp4",
    "overlay/mosaic.png",
    *_WRITTEN_ANEW,
)
# How many files a message names.
_NAMED = 6
_NUMBERED_MESH = re.compile(r"frame_\d{6,}\.ply")
_NUMBERED_PICTURE = re.compile(r"\d{6,}\.png")


def check_fit_folder(
    take: Take, out: Path, overwrite: bool = False, given: Sequence[Path] = ()
) -> None:
    """Make sure that a fit of `take` in the folder `out` costs nobody a file.

    Args:
        out: output folder; need not exist.
        overwrite: single files with the names of results may be replaced, whoever made them.
        given: further files that the run reads.
    Raises:
        InputError: something that is read has the name of a result; or `out` holds files with such
            names though no fit was ever made there.
    """
    single, numbered = _results(out, _cameras(out, take.sources))
    refuse_replacing([*given, *files_of(take)], [*single, *numbered])
    if _holds_fit(out):
        return
    foreign = numbered if overwrite else [*single, *numbered]
    if foreign:
        named = ", ".join(str(path) for path in foreign[:_NAMED])
        more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
        # Whole series that somebody else numbered are never told to go.
        remedy = "" if numbered else ", or have that replaced with --overwrite"
        raise InputError(
            f"{named}{more}: named as a fit's results are, but no fit was made in this folder; "
            f"choose another with -o{remedy}"
        )


def remove_outputs(out: Path, cameras: Iterable[str]) -> None:
    """What belongs to an earlier fit must not stand beside a new one, not even after Ctrl-C.

    Only files with a fit's own names are removed, those of `cameras` and of the earlier fit's; none
    where no fit was made or begun. rig.yaml, sync.yaml and meta.json stay until they are replaced.
    """
    if not _holds_fit(out):
        return
    single, numbered = _results(out, _cameras(out, cameras))
    for path in (*single, *numbered):
        if path.name not in _WRITTEN_ANEW and path.is_file():
            path.unlink()


def warn_of_earlier_exports(out: Path) -> None:
    """Say which exports are there when a new fit was written, and how to make them anew.

    They stay: whoever asked for them may have them open, or have chosen options that are not known
    any more.
    """
    folder = out / "export"
    made = [name for name in FORMATS if any(folder.glob(f"{name}/*"))]
    if made:
        again = " ".join(f"-f {name}" for name in made)
        warn(
            f"{folder}: {', '.join(made)} {'are' if len(made) > 1 else 'is'} of the earlier fit; "
            f"`densefit export {shlex.quote(str(out))} {again}` writes "
            f"{'them' if len(made) > 1 else 'it'} again"
        )


def _holds_fit(out: Path) -> bool:
    """Whether a fit was made or begun in this folder."""
    begun = (out / "fit.npz").is_file() or (out / PARTS).is_dir()
    return begun or _earlier_meta(out).get("format") == FORMAT


def _results(out: Path, cameras: Iterable[str]) -> tuple[list[Path], list[Path]]:
    """Existing files with the names of a fit's results: single files, and those of series."""
    overlay = out / "overlay"
    single, numbered = [out / name for name in _SINGLE], []
    numbered += _named(out / "meshes", _NUMBERED_MESH)
    for name in cameras:
        single.append(overlay / f"{name}_fit.mp4")
        numbered += _named(overlay / f"{name}_fit", _NUMBERED_PICTURE)
    return [path for path in single if path.exists()], numbered


def _named(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))


def _cameras(out: Path, cameras: Iterable[str]) -> list[str]:
    """The cameras, and those of the fit that is there."""
    earlier = _earlier_meta(out)
    names = earlier.get("cameras") if earlier.get("format") == FORMAT else None
    stated = map(str, names if isinstance(names, list) else ())
    # They become parts of paths.
    return list(dict.fromkeys([*cameras, *filter(NAME_PATTERN.fullmatch, stated)]))


def _earlier_meta(out: Path) -> dict[str, Any]:
    """meta.json; nothing where it is missing or damaged."""
    try:
        meta = read_json(out / "meta.json")
    except InputError:
        return {}
    return meta if isinstance(meta, dict) else {}
