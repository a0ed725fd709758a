"""Rendered world of sounding things, on which the whole pipeline runs on one machine without downloads."""
