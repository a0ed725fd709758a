"""From a manifest to a packed corpus: the recipe, the plan, the stages, and their run on Dask."""
