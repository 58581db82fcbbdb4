"""Videos for people to look at: H.264 that every player opens."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from calibration.atomic import atomic_path
from densefit.errors import InputError
from densefit.progress import warn

# The first that this build of FFmpeg has; x264 makes the smallest files.
_ENCODERS = ("libx264", "libopenh264", "mpeg4")

# FFmpeg's numbers for the colour description of HD video.
_BT709 = 1
_LIMITED_RANGE = 1

WAITING = 4
"""Pictures that may wait for the encoder."""


class VideoWriter:
    """Write RGB pictures to an MP4: `with VideoWriter(path, 25, w, h) as video: video.write(rgb)`.

    Pictures are encoded in a thread of their own, while the next ones are made. The file appears
    under its name only when the block ends well.
    """

    def __init__(
        self, path: str | Path, fps: float, width: int, height: int, crf: int = 20
    ) -> None:
        """Args:
        path: .mp4 to write.
        fps: frames per second, constant.
        width, height: px of the pictures that will come; odd sizes are padded to even ones.
        crf: x264's constant rate factor, lower is better and larger.
        """
        if not 0 < fps < 1000 or width < 1 or height < 1:
            raise ValueError(f"cannot write {width}x{height} at {fps} frames/s")
        self.path = Path(path)
        self.width, self.height = width, height
        self._rate = Fraction(fps).limit_denominator(1001)
        self._crf = crf
        self._stack = ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._count = 0
        self._encoder = ThreadPoolExecutor(1, "encoder")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> VideoWriter:
        import av

        self._temporary = self._stack.enter_context(atomic_path(self.path))
        try:
            self._container = av.open(
                str(self._temporary), "w", format="mp4", options={"movflags": "faststart"}
            )
            self._stream = self._add_stream()
        except BaseException as error:
            self._abandon(error)
            raise
        return self

    def write(self, rgb: np.ndarray) -> None:
        """Append one picture, (height, width, 3) uint8 RGB."""
        import av

        if rgb.shape != (self.height, self.width, 3) or rgb.dtype != np.uint8:
            raise ValueError(
                f"{self.path}: expected {self.height}x{self.width}x3 uint8, "
                f"got {rgb.shape} {rgb.dtype}"
            )
        # 4:2:0 needs even sides; the last row and column are repeated.
        if self.height % 2 or self.width % 2:
            rgb = np.pad(rgb, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.pts = self._count
        frame.time_base = 1 / self._rate
        self._count += 1
        self._waiting.append(self._encoder.submit(self._encode, frame))
        if len(self._waiting) > WAITING:
            self._waiting.popleft().result()

    def _encode(self, frame: Any) -> None:
        # In this thread: PyAV would start threads anew for every picture.
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", threads=1)
        self._container.mux(self._stream.encode(frame))

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self._abandon(error)
            return
        try:
            while self._waiting:
                self._waiting.popleft().result()
            self._container.mux(self._stream.encode(None))
            self._container.close()
        except BaseException as problem:
            self._abandon(problem)
            raise
        self._encoder.shutdown()
        self._stack.close()

    def _abandon(self, error: BaseException) -> None:
        """Close what is open and remove the unfinished file."""
        self._encoder.shutdown(cancel_futures=True)
        try:
            if self._container is not None:
                self._container.close()
        except OSError:
            pass  # a full disk does not take the file's end either
        # Told of the error, atomic_path removes its file instead of renaming it.
        try:
            self._stack.__exit__(type(error), error, error.__traceback__)
        except BaseException as again:
            if again is not error:
                raise

    def _add_stream(self) -> Any:
        import av

        for encoder in _ENCODERS:
            try:
                av.Codec(encoder, "w")
            except (av.FFmpegError, ValueError):
                continue
            if encoder != _ENCODERS[0]:
                warn(f"this PyAV has no {_ENCODERS[0]}; {self.path.name} is written with {encoder}")
            stream: Any = self._container.add_stream(encoder, rate=self._rate)
            stream.width = self.width + self.width % 2
            stream.height = self.height + self.height % 2
            stream.pix_fmt = "yuv420p"
            # Said explicitly: players guess the colour matrix from the size otherwise.
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED_RANGE
            if encoder == "libx264":
                stream.options = {"crf": str(self._crf), "preset": "superfast"}
            else:
                stream.bit_rate = int(0.2 * self.width * self.height * float(self._rate))
            return stream
        raise InputError(
            f"{self.path}: PyAV has no H.264 or MPEG-4 encoder; pip install --force-reinstall av"
        )
