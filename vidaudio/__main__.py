"""`python -m vidaudio`."""

from vidaudio.cli import main

main()
