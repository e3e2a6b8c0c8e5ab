"""The engine: jobs, media, storage, weights, pipelines and models; one direction of dependency, see tests/test_layers.py."""
