"""Fitting of a scorer of audio-visual correspondence to a corpus."""
