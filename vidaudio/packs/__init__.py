"""Training shards made from a corpus: planned, selected, gathered, written, described."""
