"""Shards: write, commit, read. Knows nothing of Dask, media or models."""
