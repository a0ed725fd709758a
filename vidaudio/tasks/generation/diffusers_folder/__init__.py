"""Code that an exported generator's folder holds, for diffusers to run where vidaudio is not installed.

Both files are copied as they are, so they import nothing of vidaudio.
"""
