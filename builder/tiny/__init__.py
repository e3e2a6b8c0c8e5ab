"""Tiny SeedVR2 checkpoints in every published layout and precision, so that tests can load what is published.

Same names, same dtypes, same containers; only the sizes are small and the weights made up.
"""
