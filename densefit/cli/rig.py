"""`densefit rig`: what can be done with rig files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

HELP = "Convert and check rig files."


def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="Caliscope's camera_array.toml or aniposelib's .toml."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="rig.yaml to write, or the folder for it.")
    ],
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
        Literal["m", "cm", "mm"],
        typer.Option("--units", help="Unit of IN's translations (Caliscope: m)."),
    ] = "m",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
) -> None:
    """Convert another tool's calibration to rig.yaml, and its recording to take.yaml."""
    from calibration import write_rig
    from calibration.convert import read_toml_rig, write_take
    from densefit.capture import load_take
    from densefit.errors import UsageError
    from densefit.files import ensure_out_dir
    from densefit.progress import warn

    if timestamps is not None and take is None:
        raise UsageError("--timestamps goes with --take FOLDER; name the folder of the videos too")
    rig_path = target if target.suffix.lower() in (".yaml", ".yml") else target / "rig.yaml"
    take_path = rig_path.with_name("take.yaml")
    for path in [rig_path] if take is None else [rig_path, take_path]:
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists; give another OUT, or --overwrite to replace it")
    rig = read_toml_rig(source, units)
    ensure_out_dir(rig_path.parent)
    write_rig(rig_path, rig)
    typer.echo(f"{rig_path}: {len(rig.cameras)} cameras ({', '.join(rig.cameras)})")
    if take is None:
        return
    if timestamps is None and (take / "timestamps.csv").is_file():
        timestamps = take / "timestamps.csv"
    files = write_take(take_path, rig_path, rig.cameras, take, timestamps)
    for name in files.missing:
        warn(f"{take}: no video for camera '{name}'; it is left out of the take")
    loaded = load_take([take_path])
    sync = timestamps or "presentation times"
    typer.echo(f"{take_path}: {len(loaded.sources)} recordings, synchronized by {sync}")


COMMANDS = {"convert": convert}
