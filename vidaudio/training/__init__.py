"""What binds the stream and the systems: recipes, the Lightning loop, checkpoints, evaluation, separation of files."""
