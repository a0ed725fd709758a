"""Evaluation of generated sounds: sets of sounds, their embeddings, and the metrics that compare them."""
