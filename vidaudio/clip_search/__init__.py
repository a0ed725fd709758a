"""Search: clips of a corpus that are nearest to words, a picture or a sound, as a table and as a page."""
