"""A rendered world of sounding things, on which the whole path runs on one machine with nothing to fetch."""
