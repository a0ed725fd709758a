"""Generation: training of diffusion models of sound, and sounds from them."""
