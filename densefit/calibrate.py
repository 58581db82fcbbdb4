"""The stage behind `densefit calibrate`: recordings of a board become rig.yaml."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calibration import CalibrationError, write_rig
from calibration.boards import Board
from calibration.calibrate import CalibrateOptions, Calibration, calibrate
from calibration.coverage import write_coverage
from calibration.detection import detect
from calibration.diagnose import check_board, why_not_found
from calibration.quality import summary, weaknesses
from calibration.views import View
from densefit.calibrate_inputs import BoardRecordings, open_recordings
from densefit.errors import InputError
from densefit.files import ensure_out_dir, write_json
from densefit.input_files import refuse_replacing
from densefit.progress import Bar, info, progress, warn

# Pictures kept of each camera for the question why the board was not found, or not the right one.
_SAMPLES = 8


@dataclass(frozen=True)
class BoardSearch:
    """How recordings are searched for the board."""

    every: int | None = None
    """Of the moments, every n-th; None: as many as make at most `max_moments`."""
    max_moments: int = 400
    sync: str | None = None
    """auto, pts, timecode, frames or the path of a .csv."""
    strict: bool = False
    """Damaged recordings are refused."""
    threads: int = 2
    """Cameras that are searched side by side."""


@dataclass(frozen=True)
class CalibrationFiles:
    """What was written."""

    rig: Path
    coverage: Path
    report: Path

    @staticmethod
    def of(rig: Path) -> CalibrationFiles:
        """What is written for a rig.yaml of this name."""
        return CalibrationFiles(
            rig,
            rig.with_name(f"{rig.stem}_coverage.png"),
            rig.with_name(f"{rig.stem}_calibration.json"),
        )

    def all(self) -> list[Path]:
        """All of them."""
        return [self.rig, self.coverage, self.report]


def calibrate_recordings(
    inputs: Sequence[str | Path],
    board: Board,
    out: Path,
    options: CalibrateOptions | None = None,
    search: BoardSearch | None = None,
    given: Sequence[Path] = (),
) -> tuple[Calibration, CalibrationFiles]:
    """Find the board in all recordings, calibrate, and write the rig and its report.

    Args:
        out: rig.yaml to write; OUT_coverage.png and OUT_calibration.json go beside it.
        given: further files that the run reads, which it must not write over either.
    Raises:
        InputError, CalibrationError: names recording or camera and what to film again.
    """
    search, files = search or BoardSearch(), CalibrationFiles.of(out)
    recordings = open_recordings(inputs, search.sync, search.strict)
    refuse_replacing([*map(Path, inputs), *recordings.read, *given], files.all())
    ensure_out_dir(out.parent)
    known = set(options.intrinsics) if options else set()
    names = {camera.name for camera in recordings.cameras}
    if known and not known & names:
        raise InputError(
            f"--intrinsics names the cameras {', '.join(sorted(known))}, the recordings are "
            f"{', '.join(sorted(names))}; names must agree"
        )
    if board.turned_alike() and len(names) > 1:
        warn(
            f"a {board.kind} of {board.columns}x{board.rows} looks the same upside down; all "
            "cameras are taken to stand upright (an even and an odd number of corners is safer)"
        )
    options = replace(
        options or CalibrateOptions(), seconds_per_moment=recordings.seconds_per_moment
    )
    views, samples = find_boards(recordings, board, search)
    _explain_missing(views, samples, recordings, board)
    for pictures in samples.values():
        check_board([gray for gray, found in pictures if found][:4], board)
    with progress(None, "calibrate", "steps") as bar:

        def step(number: int, rms: float) -> None:
            bar.advance()
            bar.note(f"rms {rms:.3f} px")

        calibration = calibrate(views, board, recordings.cameras, options, bar.note, step)
    write_coverage(files.coverage, calibration)
    write_json(files.report, report(calibration))
    write_rig(out, calibration.rig)
    for line in weaknesses(calibration):
        warn(line)
    return calibration, files


Samples = dict[str, list[tuple[np.ndarray, bool]]]
"""By camera: some of its pictures, and whether the board was found in them."""


def find_boards(
    recordings: BoardRecordings, board: Board, search: BoardSearch
) -> tuple[list[View], Samples]:
    """Search all recordings, several cameras side by side."""
    every = search.every or max(1, -(-recordings.n_moments // search.max_moments))
    moments = set(range(0, recordings.n_moments, every))
    views: list[View] = []
    samples: Samples = {camera.name: [] for camera in recordings.cameras}
    lock = threading.Lock()
    total = len(moments) * len(recordings.cameras)
    stop = threading.Event()
    with progress(total, f"find the {board.kind}", "pictures") as bar:

        def search_camera(name: str) -> None:
            found = _search(recordings, board, name, moments, samples[name], bar, stop)
            with lock:
                views.extend(found)

        with ThreadPoolExecutor(max(1, search.threads)) as pool:
            try:
                for done in [pool.submit(search_camera, c.name) for c in recordings.cameras]:
                    done.result()
            finally:
                # After Ctrl-C, or trouble with one recording, the others need no searching.
                stop.set()
    order = {camera.name: i for i, camera in enumerate(recordings.cameras)}
    return sorted(views, key=lambda v: (v.moment, order[v.camera])), samples


def _search(
    recordings: BoardRecordings,
    board: Board,
    name: str,
    moments: set[int],
    samples: list[tuple[np.ndarray, bool]],
    bar: Bar,
    stop: threading.Event,
) -> list[View]:
    views = []
    stride = max(1, len(moments) // _SAMPLES)
    for i, (moment, label, gray) in enumerate(recordings.pictures(name, moments)):
        if stop.is_set():
            break
        detection = detect(gray, board)
        if detection is not None:
            views.append(View(name, moment, detection, label))
        # Evenly spread pictures, and of those with the board the first few.
        if i % stride == 0 or (detection is not None and len(views) <= 4):
            samples.append((gray, detection is not None))
        bar.advance()
    return views


def _explain_missing(
    views: list[View], samples: Samples, recordings: BoardRecordings, board: Board
) -> None:
    seen = {view.camera for view in views}
    for camera in recordings.cameras:
        if camera.name in seen:
            continue
        reason = why_not_found([gray for gray, _ in samples[camera.name]], board)
        others = "" if not seen else f", others see it ({', '.join(sorted(seen))})"
        raise CalibrationError(
            f"camera '{camera.name}': the board {board.text()} is found in none of "
            f"{recordings_count(recordings, camera.name)} pictures{others}: {reason}"
        )


def recordings_count(recordings: BoardRecordings, camera: str) -> int:
    """Pictures that a camera took."""
    return len(recordings.frames.get(camera) or recordings.files.get(camera) or {})


def report(calibration: Calibration) -> dict:
    """The calibration in figures, for OUT_calibration.json: px, metres, radians."""
    cameras = {}
    for name, camera in calibration.rig.cameras.items():
        fit = calibration.fits.get(name)
        cameras[name] = {
            "model": camera.model,
            "rms_px": round(calibration.camera_rms(name), 4),
            "rms_alone_px": None if fit is None else round(fit.rms, 4),
            "held_out_px": None
            if fit is None
            else {k: round(v, 4) for k, v in fit.held_out.items()},
            "std": dict(camera.std or {}),
        }
    return {
        "board": calibration.board.text(),
        "rms_px": round(calibration.rms, 4),
        "corners": len(calibration.outliers),
        "left_out": int(calibration.outliers.sum()),
        "cameras": cameras,
        "links": [
            {"cameras": [k.first, k.second], "shared": k.shared, "agreeing": k.agreeing}
            for k in calibration.links
        ],
        "time_offsets_s": calibration.time_offsets,
        "warnings": weaknesses(calibration),
    }


def tell(calibration: Calibration) -> None:
    """Print the table on stderr."""
    for line in summary(calibration):
        info(line)
    if any(abs(offset) > 0.001 for offset in calibration.time_offsets.values()):
        listed = ", ".join(f"{n}: {o:.4f}" for n, o in calibration.time_offsets.items())
        info(f"clocks are apart; for take.yaml: offsets: {{{listed}}}")
