"""OpenCV's fiducial markers: dictionaries and detectors with the settings that boards need."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

# Tried when no marker of the stated dictionary is seen, largest of each kind: it holds the smaller.
COMMON_DICTIONARIES = (
    "DICT_4X4_1000",
    "DICT_5X5_1000",
    "DICT_6X6_1000",
    "DICT_7X7_1000",
    "DICT_ARUCO_ORIGINAL",
    "DICT_APRILTAG_36h11",
    "DICT_APRILTAG_25h9",
    "DICT_APRILTAG_16h5",
)


@functools.cache
def dictionary(name: str) -> Any:
    """cv2.aruco.Dictionary by OpenCV's name, DICT_..."""
    import cv2

    return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))


def dictionary_size(name: str) -> int:
    """How many markers a dictionary holds."""
    return len(dictionary(name).bytesList)


@functools.cache
def detector(name: str, border_bits: int = 1) -> Any:
    """cv2.aruco.ArucoDetector for a dictionary; AprilGrids of Kalibr have a border of 2 bits."""
    import cv2

    parameters = cv2.aruco.DetectorParameters()
    parameters.markerBorderBits = border_bits
    if border_bits > 1:
        # The black squares at a tag's corners touch it: thinner thresholds and corners that were
        # traced a little off must not lose the tag.
        parameters.maxErroneousBitsInBorderRate = 0.5
        parameters.minMarkerDistanceRate = 0.01
    return cv2.aruco.ArucoDetector(dictionary(name), parameters)


def find_markers(gray: np.ndarray, name: str, border_bits: int = 1) -> dict[int, np.ndarray]:
    """Markers in a picture.

    Args:
        gray: (H, W) uint8.
    Returns:
        (4, 2) float64 px by marker number: corners clockwise from the marker's upper left.
    """
    corners, numbers, _ = detector(name, border_bits).detectMarkers(gray)
    if numbers is None:
        return {}
    found: dict[int, np.ndarray] = {}
    ambiguous = set()
    for number, quad in zip(map(int, np.ravel(numbers)), corners, strict=True):
        quad = np.float64(quad).reshape(4, 2)
        if number not in found:
            found[number] = quad
        # Inner and outer outline of a marker are one; a number at two places is not trusted.
        elif np.linalg.norm(found[number].mean(axis=0) - quad.mean(axis=0)) > 0.2 * _side(quad):
            ambiguous.add(number)
    return {number: quad for number, quad in found.items() if number not in ambiguous}


def _side(quad: np.ndarray) -> float:
    return float(np.linalg.norm(quad - np.roll(quad, 1, axis=0), axis=1).mean())
