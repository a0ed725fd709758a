"""What a corpus on disk is: its settings, the list in parts, the columns of its shards, and what was removed."""
