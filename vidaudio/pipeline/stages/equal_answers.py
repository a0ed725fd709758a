"""Permanent answers in equal words, source after source: when they are no longer the sources' own.

A site that has blocked an account or an address may tell of every video what it tells of a dead one ("Video
unavailable"). Taken for verdicts, such answers write off a whole list. So answers are compared, by site: the reason and
the wording, without ids and numbers.

The limit, 25 in a row, follows from lists as they are. Of the published lists 10 to 40 % of the videos are gone, in
several wordings. With a share p of one wording, independent of the order, a list of n sources has about n (1 - p) p^25
runs of 25: for 2,000,000 sources and p = 0.4 that is 1.4e-4, for p = 0.3 it is 1e-7. So an ordinary list does not stop,
and a block costs 25 requests. Answers in which a few others are mixed (a page from a cache) are found by their share:
45 of the last 50, which comes up by chance with 2e-13 for p = 0.4. A list of which truly more than half is gone in one
wording, or that is sorted by what is gone, does stop: the message says how it is taken as it is.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from urllib.parse import urlsplit

from vidaudio.media.reasons import Outcome, Reason, State

# Of the last answers of a site, this share.
_WINDOW_RUNS = 2
_SHARE = 0.9
Answer = tuple[Reason, str]


def permanent_answer(outcome: Outcome, url: str = "") -> Answer | None:
    """Return the reason and the wording of a site's permanent refusal; None for anything else.

    What we refuse ourselves, by a setting that the message names, is no answer of a site.
    """
    if outcome.state is not State.FAILED or outcome.reason is None or outcome.transient:
        return None
    if "; download.allow_" in outcome.message:
        return None
    return outcome.reason, wording(outcome.message, url)


def wording(message: str, url: str = "") -> str:
    """Return a message without what differs from source to source: ids, numbers, parts of the URL."""
    text = re.sub(r"^\[[^\]]+\] [^\s:]+: ", "", message).lower()
    place = url.lower()
    text = re.sub(r"[\w-]{4,}", lambda word: "" if word[0] in place else word[0], text)
    return " ".join(re.sub(r"\d+", "#", text).split())


class EqualAnswers:
    """Permanent answers of the sites of one shard, noted by several threads.

    Attributes:
        suspect: Site, answer and outcome, once there were too many equal ones.
    """

    def __init__(self, limit: int) -> None:
        self.suspect: tuple[str, Answer, Outcome] | None = None
        self._limit = limit
        self._lock = threading.Lock()
        self._runs: dict[str, tuple[Answer | None, int]] = {}
        self._recent: dict[str, deque[Answer | None]] = {}

    def note(self, url: str, outcome: Outcome, *, is_news: bool = True) -> bool:
        """Add what came of a source; return whether the newest answers of its site are suspicious.

        Args:
            url: The source's.
            outcome: Of the source. One that may pass later is no answer, and is left out.
            is_news: False for an answer that is known from an earlier try: it counts, and ends nothing by itself.
        """
        if outcome.transient or not self._limit:
            return False
        site, answer = site_of_url(url), permanent_answer(outcome, url)
        with self._lock:
            before, length = self._runs.get(site, (None, 0))
            length = length + 1 if answer == before else 1
            self._runs[site] = (answer, length)
            recent = self._recent.setdefault(site, deque(maxlen=_WINDOW_RUNS * self._limit))
            recent.append(answer)
            if answer is None or not is_news:
                return False
            full = len(recent) == recent.maxlen and recent.count(answer) >= _SHARE * len(recent)
            if (length >= self._limit or full) and self.suspect is None:
                self.suspect = site, answer, outcome
            return self.suspect is not None

    def is_suspect(self, url: str, outcome: Outcome) -> bool:
        """Return whether an outcome is one of the equal answers."""
        if self.suspect is None:
            return False
        site, answer, _ = self.suspect
        return site_of_url(url) == site and permanent_answer(outcome, url) == answer


def site_of_url(url: str) -> str:
    """Return the host of a URL, without password and port."""
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""
