"""Exports of a finished fit: `fit.npz` and the head model become meshes and animations for other
programs."""
