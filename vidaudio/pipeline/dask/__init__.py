"""The Dask cluster that runs stages: local, by address, or through a batch system."""
