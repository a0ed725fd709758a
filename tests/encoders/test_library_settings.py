"""Settings of libraries hold for the thread that loads a model, and for no other, however the loads overlap."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from huggingface_hub import constants, is_offline_mode
from transformers.utils import logging as bars

from vidaudio.encoders import library_settings
from vidaudio.encoders.library_settings import cache_only_where_hub_is_silent, progress_bars, quiet_libraries


class OtherThread:
    """Holds a context in a thread of its own, step by step."""

    def __init__(self, context: AbstractContextManager, look: Callable[[], object]) -> None:
        self._context, self._look = context, look
        self._entered, self._leave = threading.Event(), threading.Event()
        self.saw: list[object] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._entered.wait(60)

    def _run(self) -> None:
        with self._context:
            self.saw.append(self._look())
            self._entered.set()
            self._leave.wait(60)
        self.saw.append(self._look())

    def leave(self) -> None:
        self._leave.set()
        self._thread.join()


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_settings, "_answers", lambda _url: False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_the_hub_is_offline_for_the_loading_thread_alone(silent_hub: None):
    first = OtherThread(cache_only_where_hub_is_silent(True), lambda: bool(is_offline_mode()))
    assert not is_offline_mode()
    with cache_only_where_hub_is_silent(True):
        assert is_offline_mode()
        # The one that began first ends first, and takes nothing away.
        first.leave()
        assert is_offline_mode()
    assert first.saw == [True, False]
    assert not is_offline_mode()


def test_a_hub_that_the_environment_switched_off_stays_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with cache_only_where_hub_is_silent(True):
        assert constants.HF_HUB_OFFLINE is True
    assert constants.HF_HUB_OFFLINE is True


def test_only_the_loading_thread_is_quiet(caplog: pytest.LogCaptureFixture):
    log = logging.getLogger("vidaudio.tests.library")

    def speak(where: str) -> None:
        for logger in (log, logging.root):
            logger.error("%s speaks", where)

    with caplog.at_level(logging.DEBUG):
        first = OtherThread(quiet_libraries(), lambda: speak("a loading thread"))
        speak("another thread")
        with quiet_libraries():
            speak("a quiet thread")
            log.critical("what ends everything is heard")
            first.leave()
            speak("a quiet thread")
        speak("another thread")
    told = [record.getMessage() for record in caplog.records]
    heard = ["another thread speaks"] * 2
    assert told == [*heard, "what ends everything is heard", *["a loading thread speaks"] * 2, *heard]
    assert logging.root.manager.disable == 0
    assert not log.filters


def test_bars_are_shown_again_after_the_last_of_several_loads():
    assert bars.is_progress_bar_enabled()
    first = OtherThread(progress_bars.hidden(), bars.is_progress_bar_enabled)
    with progress_bars.hidden():
        first.leave()
        assert not bars.is_progress_bar_enabled()
    assert first.saw == [False, False]
    assert bars.is_progress_bar_enabled()
