"""Outcomes of clips: a closed list of reasons why a clip was dropped or failed, so that these can be counted by cause.

Every clip leaves every stage with an `Outcome`: `done`; `dropped`, a final decision about the content; or `failed`. A
failure is permanent (a new try changes nothing) or transient (a later try may succeed).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vidaudio.text import storable_text

# In a message, what follows is a warning of yt-dlp that names a cause; before it is the site's answer.
WARNED = "; yt-dlp warned: "


class State(StrEnum):
    """State of a clip after a stage, as tables record it."""

    DONE = "done"
    DROPPED = "dropped"
    FAILED = "failed"
    REMOVED = "removed"  # taken out of a corpus on request, by `vidaudio remove`


class Reason(StrEnum):
    """Closed list of reasons; tables, reports and `--retry-failed` use the value."""

    PRIVATE = "private"
    REMOVED = "removed"
    COPYRIGHT = "copyright"
    GEO_BLOCKED = "geo_blocked"
    AGE_RESTRICTED = "age_restricted"
    MEMBERS_ONLY = "members_only"
    LIVE = "live"
    NOT_FOUND = "not_found"
    UNSUPPORTED = "unsupported"
    NO_AUDIO = "no_audio"
    NO_VIDEO = "no_video"
    TOO_SHORT = "too_short"
    CORRUPT = "corrupt"
    CORRUPT_FETCHED = "corrupt_fetched"  # damaged in this transfer over the network; a second transfer may be intact
    CRASH = "crash"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    BOT_CHECK = "bot_check"
    NETWORK = "network"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    SERVER_ERROR = "server_error"
    DISK = "disk"
    UNKNOWN = "unknown"


TRANSIENT = frozenset(
    {
        Reason.RATE_LIMITED,
        Reason.BOT_CHECK,
        Reason.NETWORK,
        Reason.TIMEOUT,
        Reason.MEMORY,
        Reason.SERVER_ERROR,
        Reason.CORRUPT_FETCHED,
        Reason.DISK,
        Reason.UNKNOWN,
    }
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """State, reason and message with which one clip left one stage.

    A message may quote a site or a file, so it is made storable here: no outcome can break the table that it enters.

    Attributes:
        state: State of the clip after the stage.
        reason: Why the clip was dropped or failed; None if it was done.
        message: First line of the tool's own message, kept for people and never compared.
    """

    state: State
    reason: Reason | None = None
    message: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", storable_text(self.message))

    @property
    def transient(self) -> bool:
        """True if a later try may succeed."""
        return self.state is State.FAILED and self.reason in TRANSIENT

    @classmethod
    def done(cls) -> Outcome:
        """Return the outcome of a finished clip."""
        return cls(State.DONE)

    @classmethod
    def dropped(cls, reason: Reason, message: str = "") -> Outcome:
        """Return the outcome of a clip that was dropped because of its content."""
        return cls(State.DROPPED, reason, message)

    @classmethod
    def failed(cls, reason: Reason, message: str = "") -> Outcome:
        """Return the outcome of a failed clip, permanent or transient depending on the reason."""
        return cls(State.FAILED, reason, message)
