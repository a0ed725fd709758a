"""Code blocks and commands of the README and of docs/, for the tests that check them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(vidaudio [^`]+)`")
_OPERATOR = re.compile(r"\s(?:&&|\|\||[&;|])(?:\s|$)")


@dataclass(frozen=True, slots=True)
class Command:
    """A command line of a page.

    Attributes:
        page: Name of the page.
        arguments: Words behind `vidaudio`.
        complete: Whether the line may be expected to run as it is: a line of a code block, not a mention in a sentence.
    """

    page: str
    arguments: tuple[str, ...]
    complete: bool

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.arguments)}"


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the contents of a page's fenced code blocks in any of these languages."""
    return [text for language, text in _BLOCK.findall(page.read_text("utf-8")) if language in languages]


def commands(page: Path) -> Iterator[Command]:
    """Yield every `vidaudio` command line of a page: those of its code blocks, then those in its sentences."""
    name = str(page.relative_to(ROOT))
    for line in shell_lines(page):
        yield from (Command(name, words, complete=True) for words in _calls(line))
    for text in _INLINE.findall(_BLOCK.sub("", page.read_text("utf-8"))):
        for words in _calls(" ".join(text.replace("[", " ").replace("]", " ").split())):
            yield Command(name, words, complete=False)


def shell_lines(page: Path) -> Iterator[str]:
    """Yield the lines of a page's shell blocks that call vidaudio, with continued lines joined, without output."""
    for block in blocks(page, "bash"):
        yield from (line for line in block.replace("\\\n", " ").splitlines() if "vidaudio" in line)
    for command, _ in consoles(page):
        yield command


def consoles(page: Path) -> list[tuple[str, str]]:
    """Return the commands of a page's console blocks, each with the output that the page shows."""
    pairs = []
    for block in blocks(page, "console"):
        command, _, output = block.replace("\\\n", " ").removeprefix("$ ").partition("\n")
        pairs.append((command, output))
    return pairs


def _calls(line: str) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of each call of `vidaudio` in a shell line."""
    for part in _OPERATOR.split(line):
        words = shlex.split(part, comments=True)
        if "vidaudio" in words:
            yield tuple(words[words.index("vidaudio") + 1 :])
