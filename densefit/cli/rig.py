"""`densefit rig`: what can be done with rig files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from densefit.cli.options import Device, Overwrite, Threads
from densefit.cli.values import file_in, refuse_existing, refuse_other_suffix, typed

if TYPE_CHECKING:
    from calibration import Rig
    from calibration.formats.common import Format

HELP = "Convert and check rig files."


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", readable=False, help="File or folder of another tool, or rig.yaml."
        ),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="rig.yaml or the folder for it; see --to.")
    ],
    to: Annotated[str, typer.Option("--to", help="Format to write.")] = "densefit",
    source_format: Annotated[
        str | None, typer.Option("--from", help="Format of IN; default: recognized.")
    ] = None,
    take: Annotated[
        Path | None,
        typer.Option("--take", metavar="FOLDER", help="Also write take.yaml for these videos."),
    ] = None,
    timestamps: Annotated[
        Path | None,
        typer.Option(
            "--timestamps", metavar="CSV", help="Frame times for --take; default: FOLDER's own."
        ),
    ] = None,
    units: Annotated[
        str | None,
        typer.Option(
            "--units",
            help="Unit of IN's translations where it is open: m, cm, mm, metres per unit.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", help="Picture size where IN does not say it: 1920x1080."),
    ] = None,
    names: Annotated[
        str | None, typer.Option("--names", help="Cameras that IN only counts: left,right.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert a calibration between tools, and a recording to take.yaml.

    Formats (docs/rig_formats.md): densefit, caliscope, freemocap, pose2sim, aniposelib, opencv,
    easymocap, colmap, colmap-bin, nerfstudio, nersemble, nersemble-shared, multiface, facescape,
    kalibr, metashape.
    """
    from calibration.formats import (
        ReadOptions,
        format_of,
        parse_names,
        parse_size,
        parse_units,
        read_any,
    )
    from calibration.formats.registry import named
    from calibration.take_file import videos_of
    from densefit.errors import UsageError

    if timestamps is not None and take is None:
        raise UsageError("--timestamps goes with --take FOLDER; name the folder of the videos too")
    goal = typed(named, to)
    metres, pixels = typed(parse_units, units), typed(parse_size, size)
    options = ReadOptions(metres, pixels, typed(parse_names, names))
    if take is not None and to != "densefit":
        raise UsageError("--take writes take.yaml for a rig.yaml; leave out --to")
    path = _target(target, goal)
    _refuse_replacing(path, goal, with_take=take is not None, overwrite=overwrite)
    found = typed(named, source_format) if source_format else format_of(source)
    if names is not None and not found.counts:
        raise UsageError(f"--names: {found.what} names its cameras itself; leave it out")
    rig = read_any(source, options, found.name)
    if take is not None:
        videos_of(rig.cameras, take)  # before anything is written
    _write(path, rig, to, found.what)
    if take is not None:
        _write_take(path, rig, take, timestamps)


def _target(target: Path, goal: Format) -> Path:
    """The file to write: `target` itself where it is named like one of its format, else in it.

    Of formats of several files it is their folder.

    Raises:
        UsageError: it is named like a file of another kind.
    """
    if goal.parts:
        if target.name in goal.parts:
            return target.parent
        if not target.is_file():  # that is told later
            refuse_other_suffix(target, (), f"a folder for {', '.join(goal.parts)}")
        return target
    if target.name == goal.target and not target.is_dir():
        return target
    return file_in(target, goal.suffixes, goal.target)


def _refuse_replacing(path: Path, goal: Format, with_take: bool, overwrite: bool) -> None:
    """UsageError when files that would be written exist and were not to be replaced."""
    from densefit.errors import UsageError

    written = [path]
    if goal.parts:
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; {goal.name} takes a folder, give another OUT")
        written = [path / part for part in goal.parts]
    if with_take:
        written.append(path.with_name("take.yaml"))
    refuse_existing(written, overwrite, "OUT")


def _write(path: Path, rig: Rig, to: str, source: str) -> None:
    from calibration.formats import write_any
    from densefit.files import ensure_out_dir

    ensure_out_dir(path.parent)
    write_any(path, rig, to)
    names = ", ".join(rig.cameras)
    typer.echo(f"{path}: {len(rig.cameras)} cameras ({names}) from {source}")


def _write_take(rig_path: Path, rig: Rig, folder: Path, timestamps: Path | None) -> None:
    from calibration.take_file import write_take
    from densefit.capture import load_take
    from densefit.progress import warn

    take_path = rig_path.with_name("take.yaml")
    if timestamps is None and (folder / "timestamps.csv").is_file():
        timestamps = folder / "timestamps.csv"
    files = write_take(take_path, rig_path, rig.cameras, folder, timestamps)
    for name in files.missing:
        warn(f"{folder}: no video for camera '{name}'; it is left out of the take")
    loaded = load_take([take_path])
    sync = timestamps or "presentation times"
    typer.echo(f"{take_path}: {len(loaded.sources)} recordings, synchronized by {sync}")


def check(
    rig: Annotated[
        Path,
        typer.Argument(
            metavar="RIG", readable=False, help="rig.yaml, or a file that `rig convert` reads."
        ),
    ],
    take: Annotated[
        Path | None,
        typer.Argument(
            metavar="[TAKE]",
            readable=False,
            help="take.yaml: its faces are checked against the rig.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for rig.png and rig.html; default: RIG_check."),
    ] = None,
    source_format: Annotated[
        str | None, typer.Option("--from", help="Format of RIG; default: recognized.")
    ] = None,
    units: Annotated[
        str | None, typer.Option("--units", help="Unit of another tool's file where it is open.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="Picture size where the file does not say it.")
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw a rig, measure it, and name what is probably wrong with it (exit code 4 then)."""
    from calibration.formats import ReadOptions, parse_size, parse_units
    from calibration.formats.registry import named
    from densefit.errors import QualityError
    from densefit.rig_check import NOTHING, check_rig

    # "." and "/" have no name.
    beside = rig.with_name(f"{rig.stem}_check") if rig.name else Path("rig_check")
    folder = out if out is not None else beside
    options = ReadOptions(typed(parse_units, units), typed(parse_size, size))
    found = typed(named, source_format).name if source_format else None
    result = check_rig(rig, take, folder, options, threads, device, found, overwrite)
    for line in result.figures:
        typer.echo(line)
    typer.echo(f"{result.png}\n{result.html}")
    if result.suspicions:
        raise QualityError(f"{rig}: " + "; ".join(s.text for s in result.suspicions))
    for line in result.remarks or [NOTHING]:
        typer.echo(line)


COMMANDS = {"convert": convert, "check": check}
