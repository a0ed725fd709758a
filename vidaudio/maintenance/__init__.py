"""What is done with a corpus beside building it: status, verify, remove, export."""
