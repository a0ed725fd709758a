"""Building a corpus: the build driver, its preflight checks, the stages, and their execution on Dask."""
