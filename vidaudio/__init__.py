"""vidaudio: from a list of videos to training data for models of sight and sound, and the models trained on it."""

__version__ = "0.1.0"
