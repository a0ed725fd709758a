"""Maintenance of an existing corpus: status, verify, remove and export."""
