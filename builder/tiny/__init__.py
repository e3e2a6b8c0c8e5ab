"""Tiny SeedVR2 and Wan2.1 checkpoints in every published layout, so that tests can load what is published.

Same names, same dtypes, same containers; only the sizes are small and the weights made up.
"""
