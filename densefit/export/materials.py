"""Plausible colours of the head's parts, for formats that carry materials and for overlays."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Material:
    """Metallic-roughness material; colour in linear RGB."""

    rgb: tuple[float, float, float]
    roughness: float
    alpha: float = 1.0


SKIN = Material((0.60, 0.36, 0.27), 0.55)
MATERIALS = {
    "skin": SKIN,
    "ears": SKIN,
    "neck": SKIN,
    "scalp": SKIN,  # its border runs in zigzags through the mesh, so another colour would show them
    "mouth": Material((0.20, 0.04, 0.04), 0.5),
    "eyes": Material((0.66, 0.63, 0.60), 0.15),
    "iris": Material((0.11, 0.065, 0.035), 0.15),
    "pupil": Material((0.005, 0.005, 0.005), 0.1),
    "teeth": Material((0.75, 0.70, 0.58), 0.25),
    "gums": Material((0.45, 0.12, 0.12), 0.4),
    "tongue": Material((0.45, 0.13, 0.13), 0.45),
    "lashes": Material((0.02, 0.012, 0.01), 0.8, alpha=0.2),
}


TEXTURED_PARTS = ("skin", "ears", "scalp", "neck")
"""Whose colours `--texture` takes from the pictures; eyes move and mouths open, so theirs stay."""


def material_of(part: str) -> Material:
    """Material of a part; skin for parts that an imported model may name otherwise."""
    return MATERIALS.get(part, SKIN)


def display_colour(look: Material) -> tuple[float, float, float]:
    """Its colour in sRGB, 0 to 1."""
    red, green, blue = (channel ** (1 / 2.2) for channel in look.rgb)
    return red, green, blue
