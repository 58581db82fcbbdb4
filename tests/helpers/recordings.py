"""Real encoded recordings whose pictures tell their own frame number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from densefit.synth.scheduling import kept_policy

WIDTH, HEIGHT, BITS = 96, 64, 8

MakeVideo = Callable[..., Path]
"""The fixture make_video: (name, n=..., fps=..., ...) -> path, see encode_video."""


def number_picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(H, W, 3) uint8: the number as eight black or white columns; the top quarter is red."""
    picture = np.zeros((height, width, 3), np.uint8)
    column = width // BITS
    for bit in range(BITS):
        picture[:, bit * column : (bit + 1) * column] = 255 * (number >> bit & 1)
    picture[: height // 4] = (220, 20, 20)
    return picture


def read_number(picture: np.ndarray) -> int:
    """Read the number back from a picture that was compressed."""
    height, width = picture.shape[:2]
    column = width // BITS
    row = picture[height // 2 :].mean(axis=(0, 2))
    bits = [row[bit * column + column // 2] > 127 for bit in range(BITS)]
    return sum(1 << bit for bit, on in enumerate(bits) if on)


def encode_video(
    path: Path,
    n: int = 20,
    fps: int | Fraction = 25,
    codec: str = "libx264",
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: int | None = None,
    matrix: list[int] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    metadata: dict[str, str] | None = None,
    movflags: str | None = None,
    options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
    pix_fmt: str | None = None,
    picture: Callable[[int, int, int], np.ndarray] = number_picture,
    hdr: tuple[int, int, int] | None = None,
) -> Path:
    """Write pictures 0..n-1; pts in units of time_base, default one frame each.

    `picture` makes them as (H, W, 3) uint8, or as uint16 for `hdr`: H.273's numbers of colour
    matrix, primaries and transfer.
    """
    flags = {"movflags": movflags} if movflags else {}
    with av.open(str(path), "w", options=flags) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt or ("yuvj420p" if codec == "mjpeg" else "yuv420p")
        if codec == "libx265":
            options = {"x265-params": "log-level=none", **(options or {})}
        stream.options = options or {}
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        if aspect is not None:
            stream.sample_aspect_ratio = aspect
        base = time_base or 1 / Fraction(fps)
        stream.codec_context.time_base = base
        if hdr:
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc = hdr
        for i in range(n):
            rgb = picture(i, *size)
            if rgb.dtype == np.uint16:
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb48le")
                frame = frame.reformat(format=stream.pix_fmt, dst_colorspace=hdr and hdr[0])
            else:
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = i if pts is None else pts[i]
            frame.time_base = base
            with kept_policy():
                packets = stream.encode(frame)
            container.mux(packets)
        container.mux(stream.encode(None))
    return path


def remux(source: Path, target: Path, shift: int, **options: str) -> Path:
    """Copy the packets with their times moved by `shift` units of the source's time base."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for packet in old.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = copy
                new.mux(packet)
    return target
