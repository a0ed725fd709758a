"""The command line: a thin layer, one command to one documented Python call.

Only the standard library and Typer are imported here; what a command needs is imported when it runs.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
# Of an error's text, the characters shown: of twenty bad rows each has its reason.
LONGEST_ERROR = 100_000
# Options that may stand without a value, and what they mean then.
BARE_OPTIONS = {"--retry-failed": "transient"}


def main() -> None:
    """Run the command line; errors meant for people become one line and an exit code."""
    from vidaudio.cli.app import app
    from vidaudio.errors import VidaudioError
    from vidaudio.text import storable_text

    # A file name that is not UTF-8, or a terminal that is not, must not end a command that has done its work.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        app(args=_with_values(sys.argv[1:]))
    except VidaudioError as error:
        # It may quote a list or a site: no escape sequence of theirs reaches the terminal.
        text = storable_text(f"error: {error}", max_characters=LONGEST_ERROR, keep_line_ends=True)
        print(text, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        # A folder that may not be written, a full disk: the system's own words and the name say what to do.
        print(f"error: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(1) from None
    except SystemExit as stop:
        if stop.code in (INTERRUPTED, TERMINATED) and _speaks():
            print(f"stopped; {_going_on(sys.argv[1:])}", file=sys.stderr)
        raise


def _speaks() -> bool:
    """Whether what a stop means is this process's to say: of several ranks' it is the first's, or their launcher's."""
    from vidaudio.training.signals import LAUNCHED

    return LAUNCHED not in os.environ and os.environ.get("RANK", "0") == "0"


def _going_on(arguments: list[str]) -> str:
    """What is left of a stopped command, and what to type to go on."""
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    if command in ("evaluate", "separate"):
        return "the same command begins anew"
    if command == "train" and not {"--resume", "--auto-resume"} & set(arguments):
        return "to go on from the newest state, give the same command with --resume, or with --auto-resume in any case"
    return "what was finished is kept, and the same command goes on from there"


def _with_values(arguments: list[str]) -> list[str]:
    """Options that stand bare get their value: Typer's own options either always or never take one."""
    filled = []
    for place, argument in enumerate(arguments):
        following = arguments[place + 1] if place + 1 < len(arguments) else "-"
        bare = argument in BARE_OPTIONS and following.startswith("-")
        filled.append(f"{argument}={BARE_OPTIONS[argument]}" if bare else argument)
    return filled


def _stop(number: int, _frame: FrameType | None) -> None:
    """Ctrl-C and SIGTERM unwind: workers are stopped, states saved and scratch removed; the code says which it was."""
    # Batch systems may say it twice, which must not break into the unwinding; a person's second Ctrl-C ends at once.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise SystemExit(128 + number)
