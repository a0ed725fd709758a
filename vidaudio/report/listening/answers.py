"""Answers files from listeners: reading, checking against the key, and choosing one per listener.

The files come from unknown browsers, by mail: nothing in them is accepted that does not match the key.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from vidaudio.config.errors import explain
from vidaudio.json_values import MAX_JSON_BYTES, parse_json
from vidaudio.report.listening.items import ListeningError
from vidaudio.report.listening.study import CHOICES, RATINGS, WHICH, Key
from vidaudio.text import storable_text


class Answer(BaseModel):
    """One listener's answer to one sound; by question, `first`, `second`, `both`, `none`, or 1 to 5."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trial: str
    values: dict[str, StrictInt | StrictStr]
    plays: int = Field(ge=1)
    seconds: float = Field(ge=0, allow_inf_nan=False)


class Answers(BaseModel):
    """Contents of one listener's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["vidaudio-listening-answers/1"]
    page: str
    participant: Annotated[str, Field(max_length=64), AfterValidator(storable_text), Field(min_length=1)]
    started: datetime
    finished: datetime | None
    saved: datetime
    order: list[str]
    answers: list[Answer]


@dataclass(frozen=True, slots=True)
class Listener:
    """A listener's file: its path, its answers, and whether it answers every sound of the page."""

    path: Path
    answers: Answers
    is_complete: bool


def read_key(path: Path) -> Key:
    """Read the key of a page.

    Raises:
        ListeningError: When the file is missing, unreadable, or not a key.
    """
    try:
        key = Key.model_validate(parse_json(_bounded(path)))
    except FileNotFoundError:
        raise ListeningError(f"there is no key at {path}: it was written beside the page, as NAME.key.json.") from None
    except ValidationError as error:
        raise ListeningError(f"{path} is no key of a listening test: {_first(Key, error)}.") from None
    except OSError as error:
        raise ListeningError(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, OverflowError) as error:
        raise ListeningError(
            f"{path} is no key of a listening test: it is no JSON, or was cut short ({error})."
        ) from None
    unknown = {trial.system for trial in key.trials.values()} - set(key.systems)
    if unknown:
        raise ListeningError(f"{path} is no key of a listening test: it plays {min(unknown)!r}, no system of it.")
    return key


def _bounded(path: Path) -> bytes:
    """Return a file's bytes, unless it is not a regular file or too long for answers or a key."""
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if not path.is_file() or path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError("it is no file, or far too long")
    return path.read_bytes()


def find_answers(paths: Sequence[Path], key_path: Path) -> list[Path]:
    """Return the given answers files and those in the given folders, without the key itself.

    Raises:
        ListeningError: When a path does not exist, or there are no answers.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ListeningError(f"there is no file or folder {path} with answers.")
        found += sorted(path.glob("*.json")) if path.is_dir() else [path]
    kept = [path for path in dict.fromkeys(found) if path.resolve() != key_path.resolve()]
    if not kept:
        raise ListeningError("there are no answers: name the files that listeners saved, or a folder of them.")
    return kept


def read_answers(path: Path, key: Key) -> Answers:
    """Read one listener's file and check every answer against the key.

    Raises:
        ListeningError: When the file is not an answers file, belongs to another page, or contains impossible answers.
    """
    try:
        answers = Answers.model_validate(parse_json(_bounded(path)))
        # Raises for years that have no Unix timestamp on this platform.
        answers.saved.timestamp()
    except OSError as error:
        raise ListeningError(f"{path} cannot be read ({error.strerror}).") from None
    except ValidationError as error:
        raise ListeningError(f"{path} is no file of answers: {_first(Answers, error)}.") from None
    except (ValueError, OverflowError) as error:
        raise ListeningError(f"{path} is no file of answers, or was cut short: {error}.") from None
    if answers.page != key.page:
        raise ListeningError(
            f"{path} answers another page ({answers.page[:8]}...) than the key opens ({key.page[:8]}...): "
            "leave it out, or give its own key."
        )
    names = [answer.trial for answer in answers.answers]
    if len(set(names)) != len(names):
        raise ListeningError(f"{path} answers a sound twice: the page writes no such file.")
    for answer in answers.answers:
        _check(path, answer, key)
    return answers


def best_of_each(listeners: Sequence[Listener]) -> tuple[list[Listener], list[tuple[Listener, Listener]]]:
    """Return one file per participant, sorted by name: the last saved complete file, or the last saved one.

    The second result lists the other files, each with the file that counts instead.
    """
    best: dict[str, Listener] = {}
    for listener in sorted(listeners, key=lambda one: (one.is_complete, one.answers.saved.timestamp())):
        best[listener.answers.participant] = listener
    others = [(one, best[one.answers.participant]) for one in listeners if one is not best[one.answers.participant]]
    return [best[name] for name in sorted(best)], others


def _check(path: Path, answer: Answer, key: Key) -> None:
    if answer.trial not in key.trials:
        raise ListeningError(f"{path}: the key knows no sound {answer.trial!r}.")
    if sorted(answer.values) != sorted(key.questions):
        raise ListeningError(
            f"{path}, sound {answer.trial}: answers to {', '.join(answer.values) or 'nothing'}; the page asks for "
            f"{', '.join(key.questions)}."
        )
    for question, value in answer.values.items():
        allowed: tuple[object, ...] = CHOICES if question == WHICH else RATINGS
        if value not in allowed:
            raise ListeningError(
                f"{path}, sound {answer.trial}: {question} is {value!r}; it is one of {', '.join(map(str, allowed))}."
            )


def _first(model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return "it is no JSON, or was cut short"
    return explain(model, error)[0] if first["loc"] else "it is JSON, but holds no keys and values"
