"""Queries of trained systems: what a sound is asked for with, shared by separation and generation."""
