"""The engine: jobs, media, storage, weights, pipelines, models; tests/test_layers.py keeps their one direction."""
