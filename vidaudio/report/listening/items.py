"""Items of a listening test: sounds with the same name in every system's folder, and a table that describes them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path

from vidaudio.errors import VidaudioError
from vidaudio.text import is_utf8, storable_text

SOUND_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"})
ITEM_COLUMNS = ("item", "target", "other", "text", "image", "group")


class ListeningError(VidaudioError):
    """Input of a listening test that does not fit: sounds, items, a key or answers; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item to judge, rendered by every system; its texts are converted to storable text.

    Attributes:
        name: The sounds' path below each system's folder, without suffix.
        target: Name of the wanted sound ("which do you hear").
        other: Name of the sound mixed with it.
        text: Text query that a generated sound should match (mean opinion scores).
        image: Image that a generated sound should match; None for none.
        group: Group of the item, for example its data set; the tables have columns for each group.
    """

    name: str
    target: str = ""
    other: str = ""
    text: str = ""
    image: Path | None = None
    group: str = ""

    def __post_init__(self) -> None:
        for field in ("target", "other", "text", "group"):
            object.__setattr__(self, field, storable_text(getattr(self, field)))


def find_sounds(place: Path) -> dict[str, Path]:
    """Return a system's sound files by item name, sorted.

    Args:
        place: A folder: an item's name is its path below the folder, without suffix. Or a path with one `*`, such as
            `results/*/clipsep/pred.wav`: an item's name is the text that matches the star.

    Raises:
        ListeningError: When there is no such folder, no sound in it, a name is not UTF-8, or two files have one name.
    """
    found = _below(place) if "*" not in str(place) else _at_star(place)
    sounds: dict[str, Path] = {}
    for name, path in found:
        if path.suffix.lower() not in SOUND_SUFFIXES:
            continue
        if not is_utf8(name):
            shown = name.encode("utf-8", "backslashreplace").decode()
            raise ListeningError(f"the name of the sound {shown} is not UTF-8, and no page can hold it: rename it.")
        if name in sounds:
            raise ListeningError(f"{sounds[name]} and {path} have one name: keep one of them.")
        sounds[name] = path
    if not sounds:
        suffixes = ", ".join(sorted(SOUND_SUFFIXES))
        raise ListeningError(f"there are no sounds in {place}: files that end in {suffixes} are looked for.")
    return sounds


def _below(folder: Path) -> Iterator[tuple[str, Path]]:
    if not folder.is_dir():
        raise ListeningError(f"there is no folder {folder}: give each system as NAME=FOLDER.")
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not any(part.startswith(".") for part in inside.parts):
            yield _without_suffix(inside), path


def _at_star(pattern: Path) -> Iterator[tuple[str, Path]]:
    before, _, after = str(pattern).partition("*")
    if "*" in after:
        raise ListeningError(f"{pattern} has more than one *: it stands for the item's name, once.")
    for path in sorted(glob(escape(before) + "*" + escape(after))):
        yield _without_suffix(Path(path[len(before) : len(path) - len(after)])), Path(path)


def _without_suffix(name: Path) -> str:
    return (name.with_suffix("") if name.suffix.lower() in SOUND_SUFFIXES else name).as_posix()


def match_sounds(systems: Mapping[str, Mapping[str, Path]]) -> tuple[list[str], dict[str, list[str]]]:
    """Return names that every system has, sorted, and for each other name the systems where it is missing."""
    names = sorted({name for sounds in systems.values() for name in sounds})
    missing = {name: [system for system, sounds in systems.items() if name not in sounds] for name in names}
    return [name for name in names if not missing[name]], {name: who for name, who in missing.items() if who}


def read_items(path: Path) -> list[Item]:
    """Read a table of items: CSV with a header line, columns of `ITEM_COLUMNS`, only `item` required.

    Paths of images are relative to the table's folder.

    Raises:
        ListeningError: When the table is missing or invalid; the message names the line where there is one.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(path, reader.fieldnames or [])
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise ListeningError(f"there is no table of items at {path}.") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise ListeningError(f"{path} is no CSV table in UTF-8: {error}.") from None
    items: dict[str, Item] = {}
    for line, row in rows:
        if None in row or None in row.values():
            raise ListeningError(
                f"{path}, line {line}: the header has {len(reader.fieldnames or ())} columns, the line not."
            )
        values = {name: value.strip() for name, value in row.items()}
        item = _item(path, line, values)
        if item.name in items:
            raise ListeningError(f"{path}, line {line}: {item.name} stands in the table twice.")
        items[item.name] = item
    if not items:
        raise ListeningError(f"{path} lists no items.")
    return list(items.values())


def _check_header(path: Path, header: Sequence[str]) -> None:
    unknown = [name for name in header if name not in ITEM_COLUMNS]
    if "item" not in header or unknown:
        found = f"unknown column {unknown[0]!r}" if unknown else "no column item"
        raise ListeningError(f"{path}, line 1: {found}; the columns are {', '.join(ITEM_COLUMNS)}.")


def _item(path: Path, line: int, values: Mapping[str, str]) -> Item:
    if not values["item"]:
        raise ListeningError(f"{path}, line {line}: item is empty; it names the sound files, without suffix.")
    image = path.parent / values["image"] if values.get("image") else None
    if image is not None and not image.is_file():
        raise ListeningError(f"{path}, line {line}: there is no picture {image}.")
    words = {key: values.get(key, "") for key in ("target", "other", "text", "group")}
    # Users write the file's name or its stem.
    return Item(_without_suffix(Path(values["item"])), image=image, **words)
