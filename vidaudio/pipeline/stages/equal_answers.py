"""Detection of blocks: permanent refusals of a site, source after source, that the sources do not cause.

A site that has blocked an account or an address may answer for every video as for a dead one ("Video unavailable"). If
these answers are believed, they write off a whole manifest. So the answers of each site are compared, in two ways: 25
in a row with one reason and one wording (without ids and numbers), and 45 of the last 50 with one reason in any
wording.

The limits follow from real manifests. Of the published ones, 10 to 40 % of the videos are gone, in several wordings.
With a share p of one wording, independent of the order, a manifest of n sources has about n (1 - p) p^25 runs of 25:
for 2,000,000 sources and p = 0.4 that is 1.4e-4, for p = 0.3 it is 1e-7. With a share p of one reason, 45 of 50 occur
by chance with probability 2e-13 for p = 0.4. So an ordinary manifest does not stop, and a block costs 25 to 50
requests. A manifest does stop if truly more than half of it is gone, or if it is sorted by what is gone. The message
then says which setting accepts the answers.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from vidaudio.media.outcomes import WARNED, Outcome, Reason, State

# Size of the window of a site's last answers, in units of the limit, and the share that must be alike.
_WINDOW = 2
_SHARE = 0.9
# First labels of public suffixes of two labels: example.co.uk is a site, co.uk is none.
_SECOND_LEVELS = frozenset({"ac", "co", "com", "edu", "go", "gov", "ne", "net", "or", "org"})
Answer = tuple[Reason, str]


@dataclass(frozen=True, slots=True)
class SiteAnswers:
    """Equal answers of one site in a row.

    Attributes:
        site: Domain of the site, see `site_of_url`.
        reason: Reason of the refusals; None where the answers are no permanent refusals.
        words: Wording of the refusals, see `wording`.
        message: Full message of the last answer.
        sources: Number of answers in a row.
    """

    site: str
    reason: Reason | None
    words: str
    message: str
    sources: int


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Refusals of a site that are too many to be believed.

    Attributes:
        site: Domain of the site, see `site_of_url`.
        reason: Reason that the refusals share.
        words: Wording that the refusals share; None where the wordings differ.
        message: Message of the last refusal.
        told: What the site did, as part of a sentence.
    """

    site: str
    reason: Reason
    words: str | None
    message: str
    told: str


def permanent_answer(outcome: Outcome, url: str = "") -> Answer | None:
    """Return reason and wording of a site's permanent refusal; None for any other outcome.

    A source that we refuse ourselves, by a setting that the message names, is no answer of a site.
    """
    if outcome.state is not State.FAILED or outcome.reason is None or outcome.transient:
        return None
    if "; download.allow_" in outcome.message:
        return None
    return outcome.reason, wording(outcome.message, url)


def wording(message: str, url: str = "") -> str:
    """Return a message without the parts that differ between sources: ids, numbers, parts of the URL, warnings.

    Warnings of yt-dlp (`WARNED`) are no part of the site's answer, and come with some answers only.
    """
    text = re.sub(r"^\[[^\]]+\] [^\s:]+: ", "", message.partition(WARNED)[0])
    place = url.lower()

    def kept(word: re.Match[str]) -> str:
        return "" if word[0].lower() in place or _is_like_an_id(word[0]) else word[0]

    return " ".join(re.sub(r"\d+", "#", re.sub(r"[\w-]{4,}", kept, text).lower()).split())


def _is_like_an_id(word: str) -> bool:
    """Return whether a word mixes letters and digits, or has capitals and small letters after its first letter."""
    with_digits = any(c.isdigit() for c in word) and any(c.isalpha() for c in word)
    return with_digits or not (word.islower() or word.isupper() or word[1:].islower())


class EqualAnswers:
    """Collects the answers of sites over one shard or one run; several threads may report.

    Args:
        limit: Equal answers of a site in a row that are suspicious; 0 for never.

    Attributes:
        suspicion: Set once a site has refused too many sources alike; else None.
    """

    def __init__(self, limit: int) -> None:
        self.suspicion: Suspicion | None = None
        self._limit = limit
        self._lock = threading.Lock()
        self._runs: dict[str, tuple[Answer | None, int]] = {}
        self._recent: dict[str, deque[Reason | None]] = {}

    def note(self, url: str, outcome: Outcome, *, is_news: bool = True) -> bool:
        """Add the outcome of a source; return whether the newest answers of its site are suspicious.

        Args:
            url: URL of the source.
            outcome: Outcome of the source. A failure that may pass later is no answer and is ignored.
            is_news: False for an answer that is known from an earlier attempt: it counts, but does not raise a
                suspicion by itself.
        """
        if outcome.transient or not self._limit:
            return False
        reason, words = permanent_answer(outcome, url) or (None, "")
        return self.note_all(SiteAnswers(site_of_url(url), reason, words, outcome.message, 1), is_news=is_news)

    def note_all(self, answers: SiteAnswers, *, is_news: bool = True) -> bool:
        """Add several equal answers; return whether the newest answers of their site are suspicious.

        Args:
            answers: The equal answers of one site.
            is_news: As for `note`.
        """
        if not self._limit:
            return False
        site, reason = answers.site, answers.reason
        with self._lock:
            key = None if reason is None else (reason, answers.words)
            before, length = self._runs.get(site, (None, 0))
            length = answers.sources + (length if key == before else 0)
            self._runs[site] = (key, length)
            recent = self._recent.setdefault(site, deque(maxlen=_WINDOW * self._limit))
            recent.extend([reason] * min(answers.sources, _WINDOW * self._limit))
            if reason is None or not is_news:
                return False
            alike = recent.count(reason)
            if self.suspicion is None and length >= self._limit:
                told = f"answered alike for {self._limit} sources or more, one after the other"
                self.suspicion = Suspicion(site, reason, answers.words, answers.message, told)
            elif self.suspicion is None and len(recent) == recent.maxlen and alike >= _SHARE * len(recent):
                told = f"refused {alike} of the last {len(recent)} sources for one reason"
                self.suspicion = Suspicion(site, reason, None, answers.message, told)
            return self.suspicion is not None

    def is_suspect(self, url: str, outcome: Outcome) -> bool:
        """Return whether an outcome is one of the refusals that are too many."""
        found, answer = self.suspicion, permanent_answer(outcome, url)
        if found is None or answer is None or site_of_url(url) != found.site:
            return False
        return answer[0] is found.reason and found.words in (None, answer[1])


def answers_of(outcomes: Iterable[tuple[str, Outcome]], limit: int) -> tuple[SiteAnswers, ...]:
    """Return the last answers of each site, equal ones in a row merged: all that `EqualAnswers` needs.

    Args:
        outcomes: URLs and outcomes of the sources, in order.
        limit: Limit of `EqualAnswers`.
    """
    by_site: dict[str, list[SiteAnswers]] = {}
    for url, outcome in outcomes:
        if outcome.transient:
            continue
        site, (reason, words) = site_of_url(url), permanent_answer(outcome, url) or (None, "")
        rows = by_site.setdefault(site, [])
        again = rows and (rows[-1].reason, rows[-1].words) == (reason, words)
        rows.append(SiteAnswers(site, reason, words, outcome.message, 1 + (rows.pop().sources if again else 0)))
    # Rows before the last `_WINDOW * limit` lie outside the window and could not count.
    return tuple(row for rows in by_site.values() for row in rows[-_WINDOW * limit :]) if limit else ()


def site_of_url(url: str) -> str:
    """Return a URL's registered domain: `example.org` for `v1.cdn.example.org`; an IP address as it is."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".").removeprefix("www.")
    except ValueError:
        return ""
    labels = host.split(".")
    if ":" in host or labels[-1].isdigit() or len(labels) <= 2:
        return host
    own = 3 if labels[-2] in _SECOND_LEVELS and len(labels[-1]) == 2 else 2
    return ".".join(labels[-own:])
