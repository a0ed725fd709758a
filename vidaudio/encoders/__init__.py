"""Frozen encoders behind one door, and the sentences that text queries are wrapped in."""
