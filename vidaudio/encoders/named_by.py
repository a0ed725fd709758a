"""Permission to load an encoder, which depends on who names it: the user, or a corpus or checkpoint of unknown origin.

An encoder that the user names may be downloaded and opened. For an encoder that a file names, no request is sent and no
path of this machine is opened, unless the user has named exactly that path before. Such paths are recorded in the
user's cache folder, so that a corpus built here can be verified, packed and trained on here without further options.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidaudio.errors import EncoderError

CACHE_VARIABLE = "VIDAUDIO_CACHE"
PLACES_FOLDER = "encoders"
_CONNECTING = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request")
_offline: contextvars.ContextVar[bool] = contextvars.ContextVar("vidaudio_offline", default=False)
_guard = threading.Lock()
_guarded = False


@dataclass(frozen=True, slots=True)
class NamedByFile:
    """An encoder that a file names and not the user.

    Attributes:
        file: The corpus or checkpoint.
        remedy: What the user can type to name the encoder.
    """

    file: str
    remedy: str


@contextlib.contextmanager
def loading(encoder: str, places: Sequence[str | os.PathLike[str]], named_by: NamedByFile | None) -> Iterator[None]:
    """Load an encoder inside this context, with the permissions of whoever named it.

    Args:
        encoder: Name of the encoder in messages.
        places: Files and folders on this machine that it is read from, except those in this package.
        named_by: The file that names the encoder; None if the user names it.

    Raises:
        EncoderError: When a path was not named by the user, or the model is not on this machine.
    """
    if named_by is None:
        _note(places)
        yield
        return
    for place in places:
        if not may_be_opened(place, named_by):
            raise EncoderError(
                f"{named_by.file} names the encoder {encoder}: {place} is a place of this machine that you have not "
                f"named yourself, so it is not opened; {named_by.remedy}"
            )
    try:
        with no_requests():
            yield
    except EncoderError as error:
        if places:
            raise
        raise EncoderError(
            f"{named_by.file} names the encoder {encoder}, which this machine does not have, and nothing is fetched "
            f"because a file names it; {named_by.remedy} ({error})"
        ) from error


def may_be_opened(place: str | os.PathLike[str], named_by: NamedByFile | None) -> bool:
    """Return whether the user has named a path, now or before."""
    return named_by is None or _note_of(place).exists()


def _note(places: Sequence[str | os.PathLike[str]]) -> None:
    """Record paths that the user has named, for files that name them later."""
    for place in places:
        noted = _note_of(place)
        # A failed record is no reason to stop: the user will only have to name the path once more.
        with contextlib.suppress(OSError):
            if not noted.exists():
                noted.parent.mkdir(parents=True, exist_ok=True)
                noted.write_text(f"{os.path.abspath(place)}\n", "utf-8")


def _note_of(place: str | os.PathLike[str]) -> Path:
    folder = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "vidaudio")
    return folder / PLACES_FOLDER / hashlib.sha256(os.fsencode(os.path.abspath(place))).hexdigest()[:32]


class Unreachable(OSError):
    """A connection that was refused here, because a file and not the user asked for it."""


@contextlib.contextmanager
def no_requests() -> Iterator[None]:
    """Forbid this thread to open connections inside this context, in any library.

    Hub clients then use only their cache. Other threads are not affected.
    """
    _watch_connections()
    _make_hub_switch_thread_wise()
    token = _offline.set(True)
    try:
        yield
    finally:
        _offline.reset(token)


def _watch_connections() -> None:
    """Install, once per process, the hook that refuses connections of threads inside `no_requests`."""
    global _guarded
    with _guard:
        if not _guarded:
            sys.addaudithook(_refuse_connections)
            _guarded = True


def _refuse_connections(event: str, arguments: tuple[object, ...]) -> None:
    if event in _CONNECTING and _offline.get():
        raise Unreachable("no connection is opened here")


class _HubOffline:
    """Thread-wise replacement of the hub client's switch `HF_HUB_OFFLINE`, since loads in other threads must go on."""

    def __init__(self, others: object) -> None:
        self._others = others

    def __bool__(self) -> bool:
        return _offline.get() or bool(self._others)


def _make_hub_switch_thread_wise() -> None:
    from huggingface_hub import constants

    with _guard:
        if not isinstance(constants.HF_HUB_OFFLINE, _HubOffline):
            # A bool in its own module, read by truth alone.
            constants.HF_HUB_OFFLINE = _HubOffline(constants.HF_HUB_OFFLINE)  # type: ignore[assignment]
