"""Why a clip did not come through: one closed list of reasons, so that failures can be counted and acted on by cause.

Every clip leaves every stage with an `Outcome`: `done`; `dropped`, decided about the content and final; or `failed`,
which is permanent (asking again changes nothing) or transient (asking later may).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vidaudio.text import storable_text


class State(StrEnum):
    DONE = "done"
    DROPPED = "dropped"
    FAILED = "failed"
    REMOVED = "removed"  # taken out of a corpus on request, by `vidaudio remove`


class Reason(StrEnum):
    """Closed list; the value is what tables, reports and `--retry-failed` use."""

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
    CORRUPT_FETCHED = "corrupt_fetched"  # as it came over the network this time; a second transfer may be whole
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
    """How one clip left one stage. `message` is the tool's own first line, kept for people, never compared.

    A message may quote a site or a file, so it is made storable here: no outcome can break the table that it enters.
    """

    state: State
    reason: Reason | None = None
    message: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", storable_text(self.message))

    @property
    def transient(self) -> bool:
        """True where trying again later may succeed."""
        return self.state is State.FAILED and self.reason in TRANSIENT

    @classmethod
    def done(cls) -> Outcome:
        return cls(State.DONE)

    @classmethod
    def dropped(cls, reason: Reason, message: str = "") -> Outcome:
        return cls(State.DROPPED, reason, message)

    @classmethod
    def failed(cls, reason: Reason, message: str = "") -> Outcome:
        return cls(State.FAILED, reason, message)
