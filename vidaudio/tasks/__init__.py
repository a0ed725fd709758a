"""Tasks: what each family of models trains, validates and evaluates."""
