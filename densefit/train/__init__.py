"""Training of the landmark network and of the head detector on synthetic faces.

Importing this package or running `python -m densefit.train` needs only torch and numpy, so that
training also runs where the rest of densefit's dependencies are not installed.
"""
