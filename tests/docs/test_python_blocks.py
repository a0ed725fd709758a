"""Every Python block of the README and of docs/ compiles, and the names that it takes from vidaudio exist."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import vidaudio
from tests.docs.pages import PAGES, ROOT, blocks

BLOCKS = [(str(page.relative_to(ROOT)), text) for page in PAGES for text in blocks(page, "python")]
REFERENCE = ROOT / "docs" / "reference"


def names_taken(text: str) -> Iterator[tuple[str, str]]:
    """Yield module and name of everything that a program takes from vidaudio."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "vidaudio":
            yield from ((node.module, name.name) for name in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "vidaudio":
            yield "vidaudio", node.attr


@pytest.mark.parametrize(("page", "text"), BLOCKS)
def test_a_block_compiles_and_its_names_exist(page: str, text: str):
    compile(text, page, "exec")
    missing = [f"{module}.{name}" for module, name in names_taken(text) if not exists(f"{module}.{name}")]
    assert missing == []


def test_a_missing_name_would_be_found():
    taken = list(names_taken("import vidaudio\nfrom vidaudio.stream import MixtureStrem\nvidaudio.biuld()"))
    assert taken == [("vidaudio.stream", "MixtureStrem"), ("vidaudio", "biuld")]
    assert not any(exists(f"{module}.{name}") for module, name in taken)


def exists(path: str) -> bool:
    """Return whether a dotted path leads to a module, or to a name in one."""
    module, _, name = path.rpartition(".")
    if hasattr(importlib.import_module(module), name):
        return True
    try:
        importlib.import_module(path)
    except ModuleNotFoundError:
        return False
    return True


def described(page: Path) -> list[str]:
    return re.findall(r"^::: ([\w.]+)$", page.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", [path for page in sorted(REFERENCE.glob("*.md")) for path in described(page)])
def test_the_reference_describes_what_exists(path: str):
    assert exists(path)


def test_the_reference_describes_every_public_name():
    names = {path.rpartition(".")[2] for page in REFERENCE.glob("*.md") for path in described(page)}
    # Described with its module.
    names.add("VidaudioError")
    assert set(vidaudio.__all__) - {"__version__"} <= names
