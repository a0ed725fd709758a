"""The command line: a thin layer, one command to one documented Python call.

Only the standard library and Typer are imported here; what a command needs is imported when it runs.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; errors meant for people become one line and an exit code."""
    from vidaudio.cli.app import app
    from vidaudio.errors import VidaudioError

    try:
        app()
    except VidaudioError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        raise SystemExit(130) from None
