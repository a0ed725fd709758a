"""One clip at a time: fetch it, decode it, say why it did not work. Knows nothing of Dask, shards or manifests."""
