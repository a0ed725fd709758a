"""Recipes: YAML files, the packaged recipes that they extend, their models, and messages about mistakes in them."""
