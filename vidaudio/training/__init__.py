"""Training engine: loop, checkpoints, logs and processes of a run, for any family of models."""
