"""Exports: a finished fit becomes meshes and animations for other programs."""
