"""Vocoders: training of BigVGAN's generator at any mel, and trained or published vocoders by path."""
