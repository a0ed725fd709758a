"""Fetching and decoding of one clip at a time, with the reason of each failure, without Dask, shards or manifests."""
