"""Who named an encoder: the user, or a corpus or checkpoint that somebody else may have made.

What the user names may be fetched and opened. What a file names causes no request, and no path of this machine is
opened for it, unless the user has named that very place before. Such places are noted in the user's cache folder, so
that a corpus built here is verified, packed and trained on here without a word more.
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
        remedy: What the user can type to name the encoder himself.
    """

    file: str
    remedy: str


@contextlib.contextmanager
def loading(encoder: str, places: Sequence[str | os.PathLike[str]], named_by: NamedByFile | None) -> Iterator[None]:
    """Load an encoder in here, as far as whoever named it may have it loaded.

    Args:
        encoder: What messages call the encoder.
        places: The files and folders of this machine that it is read from; none of this package's own.
        named_by: The file that names the encoder; None where the user does.

    Raises:
        EncoderError: A place that the user has not named, or a model that this machine does not have.
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
    """Whether a place of this machine was named by the user, now or before."""
    return named_by is None or _note_of(place).exists()


def _note(places: Sequence[str | os.PathLike[str]]) -> None:
    """Note places that the user has named, for files that name them later."""
    for place in places:
        noted = _note_of(place)
        # Where nothing can be noted, a corpus that names the place asks for it once more: no reason to end anything.
        with contextlib.suppress(OSError):
            if not noted.exists():
                noted.parent.mkdir(parents=True, exist_ok=True)
                noted.write_text(f"{os.path.abspath(place)}\n", "utf-8")


def _note_of(place: str | os.PathLike[str]) -> Path:
    folder = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "vidaudio")
    return folder / PLACES_FOLDER / hashlib.sha256(os.fsencode(os.path.abspath(place))).hexdigest()[:32]


class Unreachable(OSError):
    """A connection that was refused here, since a file and not the user asked for it."""


@contextlib.contextmanager
def no_requests() -> Iterator[None]:
    """Let this thread open no connection in here, whichever library tries.

    Hub clients take what they have in their cache then. Other threads are not touched.
    """
    _watch_connections()
    _make_hub_switch_thread_wise()
    token = _offline.set(True)
    try:
        yield
    finally:
        _offline.reset(token)


def _watch_connections() -> None:
    """Install, once a process, the hook that refuses connections of threads inside `no_requests`."""
    global _guarded
    with _guard:
        if not _guarded:
            sys.addaudithook(_refuse_connections)
            _guarded = True


def _refuse_connections(event: str, arguments: tuple[object, ...]) -> None:
    if event in _CONNECTING and _offline.get():
        raise Unreachable("no connection is opened here")


class _HubOffline:
    """The hub client's switch `HF_HUB_OFFLINE` with a value a thread, since loading elsewhere must go on."""

    def __init__(self, others: object) -> None:
        self._others = others

    def __bool__(self) -> bool:
        return _offline.get() or bool(self._others)


def _make_hub_switch_thread_wise() -> None:
    from huggingface_hub import constants

    with _guard:
        if not isinstance(constants.HF_HUB_OFFLINE, _HubOffline):
            constants.HF_HUB_OFFLINE = _HubOffline(constants.HF_HUB_OFFLINE)
