"""Frame times from a .csv: cam_id, frame_time [, frame_index, sync_index]."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from densefit.errors import InputError

REQUIRED = ("cam_id", "frame_time")
OPTIONAL = ("frame_index", "sync_index")
_MAX_INDEX = 2**62


@dataclass(frozen=True, eq=False)
class SyncTable:
    """When each camera's frames were taken, on one common clock."""

    path: Path
    times: dict[str, np.ndarray]
    """Per camera (N,) float64 seconds: entry i belongs to the i-th frame of the recording."""
    sync_indices: dict[str, np.ndarray] | None
    """Per camera (N,) int64: frames with the same number were taken together; None if not given."""


def read_sync_table(path: Path, cameras: list[str]) -> SyncTable:
    """Read the table for the given cameras.

    A camera's rows, ordered by frame_index (else frame_time), belong to its frames from the first
    on: recorders number frames from their own start, so frame_index gives the order only.

    Raises:
        InputError: missing, not such a table, or without a camera; names the line.
    """
    rows = _read_rows(path)
    by_id: dict[str, list[tuple[float, float, int]]] = {}
    for cam_id, order, time, sync in rows:
        by_id.setdefault(cam_id, []).append((order, time, sync))
    has_sync = all(sync >= 0 for *_, sync in rows)
    times, sync_indices = {}, {}
    for camera in cameras:
        table = sorted(by_id[_match_id(path, camera, list(by_id))])
        times[camera] = np.array([row[1] for row in table])
        sync_indices[camera] = np.array([row[2] for row in table], dtype=np.int64)
        if (np.diff(times[camera]) <= 0).any():
            raise InputError(f"{path}: frame_time of camera '{camera}' does not increase; mend it")
        if has_sync and (np.diff(sync_indices[camera]) <= 0).any():
            raise InputError(f"{path}: sync_index of camera '{camera}' does not increase; mend it")
    return SyncTable(path, times, sync_indices if has_sync else None)


def _read_rows(path: Path) -> list[tuple[str, float, float, int]]:
    """(cam_id, order, frame_time, sync_index or -1) for each line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            header = reader.fieldnames or []
            for column in REQUIRED:
                if column not in header:
                    raise InputError(
                        f"{path}: no column '{column}'; a sync table has "
                        f"{', '.join(REQUIRED)} and may have {', '.join(OPTIONAL)}"
                    )
            return [_parse_row(path, reader.line_num, row) for row in reader]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; it is named as sync table") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its rights") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a text table ({error}); save it as UTF-8 CSV") from error


def _parse_row(path: Path, line: int, row: dict[str, str]) -> tuple[str, float, float, int]:
    try:
        time = float(row["frame_time"])
        order = float(row["frame_index"]) if row.get("frame_index") else time
        sync = int(row["sync_index"]) if row.get("sync_index") else -1
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path}, line {line}: not numbers ({error}); mend or remove the line"
        ) from error
    if not (math.isfinite(time) and math.isfinite(order)):
        raise InputError(f"{path}, line {line}: holds NaN or infinity; remove the line")
    if abs(sync) > _MAX_INDEX:
        raise InputError(f"{path}, line {line}: sync_index {sync} is too large; mend the line")
    return row["cam_id"].strip(), order, time, sync


def _match_id(path: Path, camera: str, ids: list[str]) -> str:
    """The table's cam_id of a camera: its name, or the number that its name ends in."""
    if camera in ids:
        return camera
    number = re.search(r"(\d+)$", camera)
    if number:
        same = [i for i in ids if i.isdigit() and int(i) == int(number[1])]
        if len(same) == 1:
            return same[0]
    raise InputError(
        f"{path}: has no rows for camera '{camera}'; its cam_id are {', '.join(ids) or 'none'}"
    )
