"""`densefit calibrate`: a rig from recordings of a board; `densefit calibrate board`: the board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from densefit.cli.options import Overwrite, Strict
from densefit.cli.values import file_in, refuse_existing, refuse_other_suffix, typed

if TYPE_CHECKING:
    from calibration.boards import Board


class _RecordingsByDefault(TyperGroup):
    """`densefit calibrate a.mp4 ...` needs no command between; only `board` is one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args:
            args = ["--help"]
        if args[0] not in self.commands:
            args = ["recordings", *args]
        return super().parse_args(ctx, args)


HELP = "Calibrate cameras from recordings of a board; `calibrate board` prints one."
GROUP = _RecordingsByDefault

BOARD_HELP = (
    "charuco:5x7:35mm:26mm:DICT_4X4_50[:inverted][:legacy] (squares), chessboard:9x6:25mm (inner "
    "corners), circles:11x7:20mm[:asymmetric], aprilgrid:6x6:88mm:26.4mm (tag, gap), Caliscope's "
    "charuco.toml or Kalibr's target.yaml."
)


def calibrate(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="VIDEOS_OR_FOLDERS...",
            help="A video or a folder of pictures for each camera, or one folder of all "
            "(left_0001.png, right_0001.png, ...), or a take.yaml.",
        ),
    ],
    board: Annotated[str, typer.Option("--board", help=BOARD_HELP)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RIG", help="rig.yaml to write.")],
    intrinsics: Annotated[
        Path | None,
        typer.Option(
            "--intrinsics",
            metavar="FILE",
            help="Keep these cameras' lenses: rig.yaml or a file that `rig convert` reads.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", help="Picture size of --intrinsics, where FILE does not say it."),
    ] = None,
    lens: Annotated[
        str,
        typer.Option(
            "--lens",
            help="opencv0, opencv4, opencv5, opencv8 (coefficients), fisheye, or auto: by "
            "cross-validation.",
        ),
    ] = "auto",
    sync: Annotated[
        str | None,
        typer.Option(
            "--sync", help="auto, pts, timecode, frames, clap, flash or a .csv, as in take.yaml."
        ),
    ] = None,
    every: Annotated[
        int | None,
        typer.Option("--every", min=1, help="Search every n-th moment; default: 400 in all."),
    ] = None,
    views: Annotated[
        int, typer.Option("--views", min=3, help="Views of each camera to choose.")
    ] = 40,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="CPU threads; default: all cores.")
    ] = None,
    strict: Strict = False,
    overwrite: Overwrite = False,
) -> None:
    """Calibrate cameras from recordings of a board (print one with `densefit calibrate board`).

    Film the board in every camera's whole picture, near and far, tilted to all sides, held still;
    then where neighbouring cameras see it together.
    """
    import os

    from calibration.calibrate import CalibrateOptions
    from calibration.intrinsics import AUTO_LENSES, LENSES
    from densefit.calibrate import BoardSearch, CalibrationFiles, calibrate_recordings, tell
    from densefit.errors import UsageError

    out = file_in(out, (".yaml", ".yml"), "rig.yaml")
    refuse_existing(CalibrationFiles.of(out).all(), overwrite)
    if lens not in ("auto", *LENSES):
        raise UsageError(f"--lens {lens}: use auto, {', '.join(LENSES)}")
    cores = threads or os.cpu_count() or 1
    options = CalibrateOptions(
        lenses=AUTO_LENSES if lens == "auto" else (lens,),
        views_per_camera=views,
        intrinsics={} if intrinsics is None else _known_cameras(intrinsics, size),
    )
    search = BoardSearch(every=every, sync=sync, strict=strict, threads=cores)
    given = [Path(board), *([intrinsics] if intrinsics is not None else [])]
    calibration, files = calibrate_recordings(inputs, _board(board), out, options, search, given)
    tell(calibration)
    typer.echo(f"{files.rig}: {len(calibration.rig.cameras)} cameras, rms {calibration.rms:.3f} px")
    typer.echo(f"{files.coverage}")
    typer.echo(f"{files.report}")


def _board(text: str) -> Board:
    """A board; a malformed specification is a usage error, a damaged file of one is not."""
    from calibration.boards import is_board_file, parse_board

    return parse_board(text) if is_board_file(text) else typed(parse_board, text)


def _known_cameras(path: Path, size: str | None) -> dict[str, Any]:
    """Cameras of a file whose K is known, by name."""
    from calibration.formats import ReadOptions, parse_size, read_any

    rig = read_any(path, ReadOptions(size=typed(parse_size, size), lenses_only=True))
    return {name: camera for name, camera in rig.cameras.items() if camera.K is not None}


def board_pdf(
    board: Annotated[str, typer.Argument(metavar="BOARD", help=BOARD_HELP)],
    out: Annotated[Path, typer.Option("--out", "-o", help="PDF to write.")] = Path("board.pdf"),
    paper: Annotated[
        str, typer.Option("--paper", help="a4, a3, a2, a1, a0, letter, or fit: as large as needed.")
    ] = "fit",
    overwrite: Overwrite = False,
) -> None:
    """Write a printable PDF of a board at true scale (print at 100 %, not 'fit to page')."""
    from calibration.board_pdf import parse_paper, write_board_pdf
    from densefit.errors import InputError
    from densefit.files import ensure_out_dir

    if out.is_dir():
        raise InputError(f"{out} is a folder; name a file in it, such as board.pdf")
    refuse_other_suffix(out, (".pdf",))
    refuse_existing([out], overwrite)
    parsed, sheet = _board(board), typed(parse_paper, paper)
    ensure_out_dir(out.parent)
    width, height = write_board_pdf(out, parsed, sheet)
    typer.echo(
        f"{out}: {parsed.text()} on {width * 1e3:.0f} x {height * 1e3:.0f} mm; print at 100 %"
    )


COMMANDS = {"recordings": calibrate, "board": board_pdf}
