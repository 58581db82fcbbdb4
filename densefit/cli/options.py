"""Options that several commands share, so that they read and behave the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def _check_moment(value: str | None) -> str | None:
    """Refuse a malformed --start or --end before any input is opened."""
    if value is not None:
        from densefit.capture import parse_moment
        from densefit.errors import UsageError

        try:
            parse_moment(value)
        except UsageError as error:
            raise typer.BadParameter("give a frame number (120) or seconds (4.5s)") from error
    return value


def _check_face(value: str) -> str:
    """Refuse an unknown --face before any input is opened."""
    if value == "largest":
        return value  # the default needs no look at the networks' code
    from densefit.landmarks.choice import FaceChoice

    try:
        FaceChoice.parse(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return value


Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="INPUT...",
        readable=False,  # what cannot be read is bad input, which the stages tell, not bad usage
        help="take.yaml, one video, one photo, a folder of photos, "
        "or rig.yaml and videos whose names are its cameras.",
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Output folder.")]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option("--device", help="Where the networks run."),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "int8"],
    typer.Option(
        "--precision", help="Of the landmark networks' arithmetic; auto: the fastest on this CPU."
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, max=1024, help="CPU threads; default: all cores.")
]
Face = Annotated[
    str,
    typer.Option(
        "--face",
        help="Which of several faces: largest, left or right in the picture, or 'track N': the "
        "N-th largest, from 1.",
        callback=_check_face,
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of everything random.")
]
Start = Annotated[
    str | None,
    typer.Option(
        "--start",
        callback=_check_moment,
        help="First frame: a frame number (120) or seconds (4.5s).",
    ),
]
End = Annotated[
    str | None,
    typer.Option(
        "--end",
        callback=_check_moment,
        help="Frame to stop before: a frame number (240) or seconds (9s).",
    ),
]
Every = Annotated[int, typer.Option("--every", min=1, help="Use every n-th frame only.")]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights", help="Network weights: .safetensors, or a folder; default: the shipped ones."
    ),
]
Model = Annotated[
    Path | None, typer.Option("--model", help="Head model (.npz); default: the shipped one.")
]
Identity = Annotated[
    Path | None,
    typer.Option(
        "--identity", help="Output folder or fit.npz of an earlier take of the same person."
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what an earlier run has made.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse damaged videos instead of using their beginning.")
]
Sequence = Annotated[
    bool,
    typer.Option("--sequence", help="A folder of pictures is a film, not separate photos."),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Check everything, say what would be done and how long, and stop."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON on stdout.")]
