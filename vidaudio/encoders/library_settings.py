"""Settings of the model libraries for the thread that loads a model, and for no other.

The libraries keep these settings once a process. Switched and switched back around a load, they would hold for every
thread meanwhile, and two loads at once could leave them switched for good.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

from vidaudio.encoders.named_by import no_requests

HUB_ANSWERS_WITHIN_SECONDS = 5

_guard = threading.Lock()


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Drop this thread's log messages: hub clients log every retry, and the error raised in the end says the same."""

    class OtherThreads(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            return record.thread != here or record.levelno > logging.ERROR

    here, only_others = threading.get_ident(), OtherThreads()
    loggers = [logging.root, *(one for one in list(logging.root.manager.loggerDict.values()) if _is_logger(one))]
    for logger in loggers:
        logger.addFilter(only_others)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(only_others)


@contextlib.contextmanager
def cache_only_where_hub_is_silent(wanted: bool) -> Iterator[None]:
    """Ask the hub one quick question first, and let this thread's loads look only into the cache where it is silent.

    Out of the hub's reach, its client retries for most of a minute before it says so.

    Args:
        wanted: Whether the load would ask the hub at all.
    """
    from huggingface_hub import constants

    if not wanted or constants.HF_HUB_OFFLINE or _answers(constants.ENDPOINT):
        yield
        return
    with no_requests():
        yield


class _ProgressBars:
    """Counts the loads that want no progress bars of transformers: the last one lets them be shown again."""

    def __init__(self) -> None:
        self._loads = 0
        self._shown = False

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Hide them: a model is read in a moment, and the bar that is drawn for it would stay in every log."""
        from transformers.utils import logging as bars

        with _guard:
            self._loads += 1
            if self._loads == 1:
                self._shown = bars.is_progress_bar_enabled()
                bars.disable_progress_bar()
        try:
            yield
        finally:
            with _guard:
                self._loads -= 1
                if self._loads == 0 and self._shown:
                    bars.enable_progress_bar()


progress_bars = _ProgressBars()


def _is_logger(entry: object) -> bool:
    return isinstance(entry, logging.Logger)


def _answers(url: str) -> bool:
    """Return whether a server speaks HTTP at `url`, whatever it says."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=HUB_ANSWERS_WITHIN_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False
