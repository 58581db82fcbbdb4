"""From a decoded picture of any pixel format to upright 8 bit RGB; high dynamic range is mapped."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from densefit.capture.orientation import UPRIGHT, Orientation, oriented
from densefit.capture.photos import MAX_PIXELS

# Numbers of ITU-T H.273 in FFmpeg's frames.
_UNSPECIFIED = 2
_PQ, _HLG = 16, 18
_BT2020_PRIMARIES = 9
_HD_HEIGHT = 720

# Radiance that HDR video shows as white (ITU-R BT.2408), cd/m^2; 1.0 below.
_REFERENCE_WHITE = 203.0
_PEAK = 10000.0 / _REFERENCE_WHITE
_HLG_PEAK = 1000.0 / _REFERENCE_WHITE

# ITU-R BT.2020 to BT.709, linear light (ITU-R BT.2087).
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    np.float32,
)
_LUMA_BT2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)
_STEPS = 4096


def upright_rgb(picture: Any, pixel_aspect: Any, orientation: Orientation = UPRIGHT) -> np.ndarray:
    """(H, W, 3) uint8 RGB, square pixels, turned and mirrored.

    Args:
        picture: an av.VideoFrame. Transparency is dropped; PQ and HLG are tone-mapped.
        pixel_aspect: width over height of a pixel, None for 1.
        orientation: what the file's display matrix says.
    Raises:
        ValueError, OSError: colours or a shape that cannot be, as damaged headers claim.
    """
    # Pixels that are not square are stretched to the longer side, so that no detail is lost.
    aspect = float(pixel_aspect or 1)
    if picture.width * picture.height * max(aspect, 1 / aspect) > MAX_PIXELS:
        raise ValueError(f"pixels {aspect:g} times as wide as high")
    hdr = int(picture.color_trc) in (_PQ, _HLG)
    image = picture.to_ndarray(
        format="rgb48le" if hdr else "rgb24",
        width=round(picture.width * max(aspect, 1.0)),
        height=round(picture.height * max(1 / aspect, 1.0)),
        src_colorspace=_colour_matrix(picture),
        # More threads are made anew for every picture, which takes longer than they save.
        threads=1,
    )
    if hdr:
        image = tone_mapped(image, int(picture.color_trc), int(picture.color_primaries))
    return oriented(image, orientation)


def _colour_matrix(picture: Any) -> str | None:
    """Files that do not say: HD is BT.709, as every player takes it; the rest is left to FFmpeg."""
    unsaid = int(picture.colorspace) == _UNSPECIFIED
    return "ITU709" if unsaid and picture.height >= _HD_HEIGHT else None


def tone_mapped(image: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """HDR to sRGB, so that what is lit like a face looks as in ordinary video.

    Args:
        image: (H, W, 3) uint16 RGB, full range, encoded with `transfer`.
        transfer: 16 PQ (SMPTE ST 2084) or 18 HLG (ARIB STD-B67).
        primaries: 9 for BT.2020; anything else is taken for BT.709.
    Returns:
        (H, W, 3) uint8.
    """
    import cv2

    linear = _linear_table(transfer)[image]
    if transfer == _HLG:
        # The display's part of HLG (ITU-R BT.2100, OOTF): brighter scenes are shown steeper.
        luma = cv2.transform(linear, _LUMA_BT2020[None])
        linear *= _HLG_PEAK * np.maximum(luma, 1e-6)[..., None] ** 0.2
    if primaries == _BT2020_PRIMARIES:
        linear = cv2.transform(linear, _TO_BT709)
    # Equal steps of the square root follow the eye closely enough for a table of 8 bit results.
    steps = np.sqrt(np.clip(linear, 0, _PEAK) * ((_STEPS - 1) ** 2 / _PEAK))
    return _display_table()[steps.astype(np.uint16)]


@functools.cache
def _linear_table(transfer: int) -> np.ndarray:
    """(65536,) float32: linear light of each code value; PQ over reference white, HLG in 0..1."""
    code = np.linspace(0, 1, 65536)
    if transfer == _HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12).astype(
            np.float32
        )
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    root = code ** (1 / m2)
    return (_PEAK * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)).astype(np.float32)


@functools.cache
def _display_table() -> np.ndarray:
    """(4096,) uint8: sRGB for the square root of light over its peak.

    Proportional up to 60 % of the display, then a soft shoulder that white and brighter approach.
    """
    light = 0.9 * _PEAK * np.linspace(0, 1, _STEPS) ** 2
    knee, room = 0.6, 0.4
    light = np.where(light < knee, light, knee + room * (1 - np.exp((knee - light) / room)))
    srgb = np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * srgb + 0.5).astype(np.uint8)
