"""Shards: writing, committing and reading. Independent of Dask, media and models."""
