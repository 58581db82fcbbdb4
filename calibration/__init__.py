"""Cameras, lenses and rig files. Knows nothing of faces; densefit imports it, never the reverse."""
