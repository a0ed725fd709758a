"""Self-contained HTML page that holds a whole listening test and sends no network requests.

Scripts, styles and data are in the file. A content security policy lists the script and the style by hash and forbids
every request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from vidaudio.files import atomic_write
from vidaudio.report.listening.items import Item, ListeningError, find_sounds, match_sounds
from vidaudio.report.listening.sounds import Level, encode_flac, encode_picture, match_levels, read_sound
from vidaudio.report.listening.study import (
    ANSWERS_FORMAT,
    Key,
    Kind,
    choose_items,
    page_trial,
    plan_trials,
    questions_of,
)
from vidaudio.text import storable_text

LARGE_PAGE_BYTES = 50e6
LENGTH_TOLERANCE_SECONDS = 0.05
SEED_BITS = 48
LONGEST_INTRODUCTION = 20_000
NAMES_SHOWN = 5
TITLES = {Kind.WHICH: "Which sound do you hear?", Kind.MOS: "How does it sound?"}


@dataclass(frozen=True, slots=True)
class MadePage:
    """Result of `make_page`: the files that were written, and notes for the experimenter."""

    page: Path
    key: Path
    items: int
    systems: int
    trials: int
    seconds: float
    bytes: int
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """Return the record as JSON-ready values."""
        return {name: str(v) if isinstance(v := getattr(self, name), Path) else v for name in self.__slots__}

    def __str__(self) -> str:
        lines = [
            f"{self.page}: {self.items} items of {self.systems} systems, {self.trials} sounds, "
            f"{self.seconds / 60:.1f} minutes to listen, {self.bytes / 1e6:.1f} MB",
            f"{self.key}: says whose sounds they are; keep it to yourself, the tally needs it",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True, slots=True)
class PageText:
    """Text that a page shows to listeners.

    Attributes:
        title: Heading of the page; None for the default heading of the kind.
        introduction: Paragraph for listeners, plain text.
    """

    title: str | None = None
    introduction: str = ""


def make_page(
    systems: Mapping[str, Path],
    page: Path,
    *,
    kind: Kind = Kind.WHICH,
    items: Sequence[Item] | None = None,
    count: int | None = None,
    seed: int | None = None,
    level: Level = Level.AS_IS,
    text: PageText | None = None,
) -> MadePage:
    """Write a listening test and, beside it, its key (`page.key.json` of `page.html`).

    Args:
        systems: Folder of sounds of each system; sounds with the same name are one item. Items that are missing in a
            system are left out and noted.
        page: Path of the HTML file.
        kind: "Which do you hear" (CLIPSep, table 5) or ratings of fidelity and relevance (CLIPSonic).
        items: Descriptions of the sounds, required for `which`; without them, `mos` asks only for fidelity.
        count: Number of items, drawn by seed; None for all.
        seed: Seed of names, sides and items; None for a random one. The key contains it and the page does not, since
            the seed and the folders together reveal the systems.
        level: Loudness matching of the sounds.
        text: Heading and introduction; None for the default heading of the kind, without an introduction.

    Raises:
        ListeningError: When folders have no common sounds, items have no texts, or the page or key exists already.
        MediaError: When a sound or image cannot be read.
    """
    key_path = page.with_suffix(".key.json")
    for path in (page, key_path):
        if path.exists():
            raise ListeningError(
                f"{path} is there already, and answers may be on their way that only it fits: name another page."
            )
    if not systems:
        raise ListeningError("there are no systems: give each as NAME=FOLDER.")
    seed = secrets.randbits(SEED_BITS) if seed is None else seed
    sounds = {system: find_sounds(Path(folder)) for system, folder in systems.items()}
    chosen, notes = _choose(kind, items, sounds)
    chosen = choose_items(chosen, count, seed)
    trials, numbering = plan_trials(kind, chosen, list(systems), seed)
    questions = questions_of(kind, chosen)
    if kind is Kind.MOS and len(questions) == 1:
        notes.append("only fidelity is asked: relevance needs a text or image for every item, in the table of items.")
    rendered, seconds = _render(chosen, sounds, level, notes)
    text = text or PageText()

    by_name = {item.name: item for item in chosen}
    number = {name: place for place, name in enumerate(numbering)}
    study = {
        "answersFormat": ANSWERS_FORMAT,
        "kind": kind.value,
        "questions": questions,
        "title": storable_text(text.title or TITLES[kind]),
        "introduction": storable_text(text.introduction, max_characters=LONGEST_INTRODUCTION, keep_line_ends=True),
        "minutes": max(1, round(seconds / 60)),
        "trials": {n: page_trial(t, by_name[t.item], number[t.item]) for n, t in trials.items()},
    }
    media = {f"sound-{name}": rendered[trial.system, trial.item] for name, trial in trials.items()}
    media |= {f"picture-{number[i.name]}": encode_picture(i.image) for i in chosen if i.image is not None}
    study["page"] = _fingerprint(study, media)
    html = _fill_template(study, media)
    if len(html) > LARGE_PAGE_BYTES:
        notes.append(
            f"the page has {len(html) / 1e6:.0f} MB: some mail and browsers refuse that; --count makes it less."
        )
    key = Key(
        page=study["page"],
        kind=kind,
        seed=seed,
        level=level.value,
        systems=list(systems),
        questions=questions,
        trials=trials,
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    # The key is written first: answers to a page without a key could not be evaluated.
    _write_new(key_path, key.model_dump_json(indent=1).encode() + b"\n")
    _write_new(page, html)
    return MadePage(page, key_path, len(chosen), len(systems), len(trials), seconds, len(html), notes)


def _choose(
    kind: Kind, items: Sequence[Item] | None, sounds: Mapping[str, Mapping[str, Path]]
) -> tuple[list[Item], list[str]]:
    """Return the items that every system has, and notes about those left out."""
    common, missing = match_sounds(sounds)
    if items is None and kind is Kind.WHICH:
        raise ListeningError(
            'to ask "which do you hear" the two sounds of every item must be named: give a table, --items items.csv, '
            "with the columns item, target and other."
        )
    if not common:
        raise ListeningError(
            f"no sound has the same name in all of {', '.join(sounds)}: files are matched by their paths below each "
            "folder, without suffix."
        )
    listed = [Item(name) for name in common] if items is None else list(items)
    kept = [item for item in listed if item.name in common]
    if not kept:
        raise ListeningError(
            f"none of the items in the table is a sound of all systems; there are, for example, {_names(common)}."
        )
    notes = []
    if unheard := [item.name for item in listed if item.name not in common]:
        who = "; ".join(f"{n}: {', '.join(missing.get(n, ['all']))}" for n in unheard[:NAMES_SHOWN])
        notes.append(f"left out, missing in some systems: {_many(unheard, 'item')} of the table ({who}).")
    if items is None and missing:
        who = "; ".join(f"{name}: {', '.join(missing[name])}" for name in list(missing)[:NAMES_SHOWN])
        notes.append(f"left out, missing in some systems: {_many(missing, 'sound')} ({who}).")
    if items is not None and (unlisted := sorted(set(common) - {item.name for item in listed})):
        notes.append(f"left out, not in the table: {_many(unlisted, 'sound')} ({_names(unlisted)}).")
    for item in kept:
        if kind is Kind.WHICH and not (item.target and item.other and item.target != item.other):
            raise ListeningError(f"item {item.name} needs two different names, in the columns target and other.")
    return kept, notes


def _render(
    items: Sequence[Item], sounds: Mapping[str, Mapping[str, Path]], level: Level, notes: list[str]
) -> tuple[dict[tuple[str, str], bytes], float]:
    """Return FLAC bytes by system and item, and the total seconds; one item is decoded at a time."""
    rendered: dict[tuple[str, str], bytes] = {}
    clipped, uneven, seconds = [], [], 0.0
    for item in items:
        read = {system: read_sound(paths[item.name]) for system, paths in sounds.items()}
        lengths = [sound.seconds for sound in read.values()]
        seconds += sum(lengths)
        if max(lengths) - min(lengths) > LENGTH_TOLERANCE_SECONDS:
            uneven.append(item.name)
        for system, sound in match_levels(read, level).items():
            if sound.peak > 1.0:
                clipped.append(f"{system}/{item.name}")
            rendered[system, item.name] = encode_flac(sound)
    if clipped:
        notes.append(f"clipped at full scale: {_many(clipped, 'sound')} ({_names(clipped)}); --level turns them down.")
    if uneven:
        notes.append(f"of unequal lengths, which tells systems apart: {_many(uneven, 'item')} ({_names(uneven)}).")
    return rendered, seconds


def _fingerprint(study: Mapping[str, object], media: Mapping[str, bytes]) -> str:
    """Return the id of a page: the SHA-256 of all its questions and media."""
    contents = {name: hashlib.sha256(value).hexdigest() for name, value in media.items()}
    return hashlib.sha256(json.dumps([study, contents], sort_keys=True).encode()).hexdigest()


def _fill_template(study: Mapping[str, object], media: Mapping[str, bytes]) -> bytes:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("vidaudio.report.listening")
    style, order, steps = (folder.joinpath(name).read_text("utf-8") for name in ("page.css", "order.js", "page.js"))
    script = f"{order}\n{steps}"
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string(folder.joinpath("page.html.j2").read_text("utf-8"))
    return template.render(
        study=study,
        media={name: base64.b64encode(value).decode() for name, value in media.items()},
        style=Markup(style),
        script=Markup(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
    ).encode()


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _many(things: Collection[str], noun: str) -> str:
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (" ..." if len(names) > NAMES_SHOWN else "")


def _write_new(path: Path, contents: bytes) -> None:
    """Write a file under a temporary name and rename it, so that it exists completely or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(contents)
