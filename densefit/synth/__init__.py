"""Synthetic faces: a batched torch renderer whose landmarks are known exactly."""
