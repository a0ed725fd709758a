"""Thread-local settings of the model libraries, for the thread that loads a model.

The libraries keep these settings per process. Setting and resetting them around a load would affect every other thread
meanwhile, and two simultaneous loads could leave them changed for good.
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
    """Drop this thread's log messages up to ERROR.

    Hub clients log every retry, and the final error contains the same information.
    """

    class OtherThreads(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            return record.thread != here or record.levelno > logging.ERROR

    here, only_others = threading.get_ident(), OtherThreads()
    known = list(logging.root.manager.loggerDict.values())
    loggers = [logging.root, *(one for one in known if isinstance(one, logging.Logger))]
    for logger in loggers:
        logger.addFilter(only_others)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(only_others)


@contextlib.contextmanager
def cache_only_where_hub_is_silent(wanted: bool) -> Iterator[None]:
    """Send the hub one quick request first; without an answer, restrict this thread's loads to the local cache.

    Without a connection, the hub's client would retry for most of a minute before it fails.

    Args:
        wanted: Whether the load would contact the hub at all.
    """
    from huggingface_hub import constants

    if not wanted or constants.HF_HUB_OFFLINE or _answers(constants.ENDPOINT):
        yield
        return
    with no_requests():
        yield


class _ProgressBars:
    """Counter of the loads that hide transformers' progress bars: the end of the last load shows them again."""

    def __init__(self) -> None:
        self._loads = 0
        self._shown = False

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Hide the bars: a model loads in a moment, and its bar would remain in every log."""
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


def _answers(url: str) -> bool:
    """Return whether an HTTP server responds at `url`, with any status."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=HUB_ANSWERS_WITHIN_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False
