"""Training shards made from a corpus: selection, planning, gathering, writing and description."""
