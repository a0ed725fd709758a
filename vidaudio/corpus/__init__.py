"""A corpus on disk: its settings, its manifest in parts, the columns of its shards, and its tombstones."""
