"""Command line: a thin layer in which each command is one call of a documented Python function.

Only the standard library and Typer are imported here; a command imports what it needs when it runs.
"""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
from types import FrameType

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
# Maximum length of a printed error, in characters: enough for twenty bad rows, each with its reason.
LONGEST_ERROR = 100_000
# Options whose value may be omitted, and the value that is then used.
BARE_OPTIONS = {"--retry-failed": "transient"}

_EMPTY = "the value is empty, maybe that of a variable that is not set"


def main() -> None:
    """Run the command line; an error for users is printed as one message and becomes an exit code."""
    from vidaudio.cli.app import app
    from vidaudio.cli.messages import show_messages
    from vidaudio.errors import VidaudioError
    from vidaudio.text import storable_text

    # A file name or a terminal that is not UTF-8 must not make a command fail that has done its work.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    show_messages()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        app(args=_with_values(_without_empty(sys.argv[1:])))
    except VidaudioError as error:
        # The error may quote a list or a site: their escape sequences must not reach the terminal.
        text = storable_text(f"error: {error}", max_characters=LONGEST_ERROR, keep_line_ends=True)
        print(text, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        # For example a read-only folder or a full disk: the file name and the system's message tell the user what to
        # do.
        print(f"error: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(1) from None
    except SystemExit as stop:
        if stop.code in (INTERRUPTED, TERMINATED) and _speaks():
            print(f"stopped; {_going_on(sys.argv[1:])}", file=sys.stderr)
        raise
    finally:
        # Registered last, so it runs before the libraries' own functions at exit.
        atexit.register(_ignore_further_stops)


def _ignore_further_stops() -> None:
    """Ignore SIGTERM from now on; let SIGINT end the process at once.

    Called when a stop is being handled already, and when the interpreter exits: in a library's function at exit,
    SystemExit would be printed as a traceback.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _speaks() -> bool:
    """Return whether this process reports a stop: of several ranks, only rank 0 or the launcher does."""
    from vidaudio.training.signals import LAUNCHED

    return LAUNCHED not in os.environ and os.environ.get("RANK", "0") == "0"


def _going_on(arguments: list[str]) -> str:
    """Return what remains of a stopped command, and what to type to continue."""
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    if command == "evaluate":
        return "the same command begins anew; with -o, sounds that a generator has made are kept"
    if command in ("separate", "generate", "fit-scorer"):
        return "the same command begins anew"
    if command == "train" and not {"--resume", "--auto-resume"} & set(arguments):
        return "to go on from the newest state, give the same command with --resume, or with --auto-resume in any case"
    return "what was finished is kept, and the same command goes on from there"


def _without_empty(arguments: list[str]) -> list[str]:
    """Return the arguments; an empty path or name would silently be the current folder.

    Raises:
        UsageError: When a value is empty.
    """
    from vidaudio.errors import UsageError

    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if argument == "":
            before = arguments[place - 1] if place else ""
            raise UsageError(f"{before if before.startswith('-') else 'an argument'}: {_EMPTY}")
        if name.startswith("-") and equals and not value:
            raise UsageError(f"{name}: {_EMPTY}")
    return arguments


def _with_values(arguments: list[str]) -> list[str]:
    """Add the default value to options without a value: a Typer option either always or never takes one."""
    filled = []
    for place, argument in enumerate(arguments):
        following = arguments[place + 1] if place + 1 < len(arguments) else "-"
        bare = argument in BARE_OPTIONS and following.startswith("-")
        filled.append(f"{argument}={BARE_OPTIONS[argument]}" if bare else argument)
    return filled


def _stop(number: int, _frame: FrameType | None) -> None:
    """Handle SIGINT and SIGTERM: raise SystemExit with 128 + the signal's number.

    The stack unwinds, so that workers stop, states are saved and scratch files are removed.
    """
    # Batch systems may send SIGTERM twice, which must not interrupt the unwinding.
    _ignore_further_stops()
    raise SystemExit(128 + number)
