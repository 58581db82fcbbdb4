"""Random damage to files: of their bytes, of their words and numbers, of the arrays they hold."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np

Damage = Callable[[bytes, np.random.Generator], bytes]

# What people, programs and attackers write where a number or a name belongs.
ODD_VALUES = (
    "nan", ".nan", "1e999", "-1", "0", "", "null", "[]", "{}", "[[[[[", "true", '"text"', "'",
    "1" + 30 * "0", "1" + 400 * "0", "1e-320", "../../etc/passwd", "/dev/zero", "0x1F", "*a", "&a",
    "!!python/name:os.system", "é", "\x00", "left",
)  # fmt: skip
_NUMBER = re.compile(r"-?\d+\.?\d*(?:[eE][-+]?\d+)?")
_WORD = re.compile(r"[A-Za-z_]{2,}")
_MARK = re.compile(r"[\[\]{}:,=<>\"'-]")


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bits, half of the time in the header."""
    values = np.frombuffer(data, np.uint8).copy()
    reach = len(values) if rng.random() < 0.5 else min(len(values), 600)
    for _ in range(int(rng.choice([1, 2, 5, 20]))):
        values[rng.integers(reach)] ^= 1 << rng.integers(8)
    return values.tobytes()


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(len(data))]


def headless(data: bytes, rng: np.random.Generator) -> bytes:
    return data[rng.integers(len(data)) :]


def hole(data: bytes, rng: np.random.Generator) -> bytes:
    start = rng.integers(len(data))
    return data[:start] + data[start + rng.integers(1, 2000) :]


def noise(data: bytes, rng: np.random.Generator) -> bytes:
    start, length = rng.integers(len(data)), int(rng.integers(1, 2000))
    return data[:start] + rng.bytes(length) + data[start + length :]


def blank(data: bytes, rng: np.random.Generator) -> bytes:
    start, length = rng.integers(len(data)), int(rng.integers(1, 2000))
    return data[:start] + bytes([rng.choice([0, 255])]) * length + data[start + length :]


def twice(data: bytes, rng: np.random.Generator) -> bytes:
    return data + data


def confused(data: bytes, rng: np.random.Generator) -> bytes:
    """Something else under this name."""
    others = (
        b"", bytes(4096), b"{}", b"[]", b"null", b"[" * 50_000, b"<xml/>",
        b"<opencv_storage>" * 50_000, b"- " * 50_000, b"PK\x05\x06" + bytes(18),
        b"\xff\xfe" + data, data.decode("latin-1").encode("utf-16"), rng.bytes(5000),
        np.lib.format.magic(1, 0) + data, b"\x89PNG\r\n\x1a\n" + data,
    )  # fmt: skip
    return others[rng.integers(len(others))]


def _replace(text: str, what: re.Pattern[str], rng: np.random.Generator) -> str:
    found = list(what.finditer(text))
    value = ODD_VALUES[rng.integers(len(ODD_VALUES))]
    if not found:
        return text + value
    match = found[rng.integers(len(found))]
    return text[: match.start()] + value + text[match.end() :]


def words(data: bytes, rng: np.random.Generator) -> bytes:
    """A number, a word or a mark replaced by what does not belong there."""
    text = data.decode("utf-8", "replace")
    for _ in range(int(rng.choice([1, 1, 4]))):
        text = _replace(text, (_NUMBER, _NUMBER, _WORD, _MARK)[rng.integers(4)], rng)
    return text.encode("utf-8", "replace")


def lines(data: bytes, rng: np.random.Generator) -> bytes:
    """A line removed, repeated, or moved."""
    rows = data.split(b"\n")
    row = rows.pop(rng.integers(len(rows)))
    for _ in range(int(rng.integers(3))):
        rows.insert(int(rng.integers(len(rows) + 1)), row)
    return b"\n".join(rows)


def arrays(data: bytes, rng: np.random.Generator) -> bytes:
    """A whole .npz, one of whose arrays holds another number, or is another."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        held = {name: archive[name] for name in archive.files}
    name = sorted(held)[rng.integers(len(held))]
    changed = _other_array(held[name], rng)
    held = {k: v for k, v in {**held, name: changed}.items() if v is not None}
    stream = io.BytesIO()
    np.savez(stream, **held)  # type: ignore[arg-type]
    return stream.getvalue()


def _other_array(array: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Of another type, shape or content; None: no array at all."""
    changed = array.copy()
    one = int(rng.integers(array.size)) if array.size else 0
    values: dict[str, Any] = {"f": (np.nan, np.inf, 3e38, 0, -1), "i": (-1, 10**9), "u": (255,)}
    if array.size and array.dtype.kind in values and rng.random() < 0.4:
        choice = values[array.dtype.kind]
        changed.reshape(-1)[one] = choice[rng.integers(len(choice))]
        return changed
    others: tuple[Callable[[], np.ndarray | None], ...] = (
        lambda: None,
        lambda: changed[None],
        lambda: changed.T,
        lambda: changed[: len(changed) // 2] if changed.ndim else changed,
        lambda: np.concatenate([changed, changed]) if changed.ndim else changed,
        lambda: changed[:0] if changed.ndim else np.zeros(0),
        lambda: changed[::-1] if changed.ndim else changed,
        lambda: np.asarray("text"),
        lambda: np.float64(3),  # type: ignore[return-value]
        lambda: np.ones(changed.shape, bool),
        lambda: np.zeros(changed.shape, complex),
        lambda: np.zeros(changed.shape, [("a", "f4"), ("b", "i4")]),
        lambda: np.full(changed.shape, {}, object),
    )
    return others[rng.integers(len(others))]()


BYTES: tuple[Damage, ...] = (flip, flip, cut, headless, hole, noise, blank, twice, confused)
TEXT: tuple[Damage, ...] = (words, words, words, words, lines, lines, flip, cut, confused)
ARRAYS: tuple[Damage, ...] = (arrays, arrays, arrays, arrays, arrays, flip, cut, confused)
