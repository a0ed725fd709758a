"""Frozen encoders of images and text, and the prompt templates of text queries."""
