"""Every command line and recipe in the README and in docs/ is one that vidaudio would accept; nothing is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from tests.conftest import REPOSITORY
from tests.docs.pages import PAGES, Command, blocks, commands
from vidaudio.cli import _with_values
from vidaudio.cli.app import app
from vidaudio.config.corpus import load_corpus_recipe
from vidaudio.config.recipes import find_recipe
from vidaudio.tasks.registry import load_train_recipe

COMMANDS = [command for page in PAGES for command in commands(page)]


def parsed(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse a command line as Typer does, without running it; return the parameters of its last command.

    Raises:
        UsageError: When a command, an option or an argument does not exist or fit.
    """
    command, context, words = typer.main.get_command(app), None, _with_values(list(arguments))
    name: str | None = "vidaudio"
    while True:
        context = command.make_context(name, words, parent=context)
        if not hasattr(command, "resolve_command"):
            return context.params
        name, command, words = command.resolve_command(context, context._protected_args + context.args)


def problem(command: Command) -> str | None:
    """Return what is wrong with a command line; None if nothing is."""
    try:
        parameters = parsed(command.arguments)
    except Exception as error:
        kind = type(error).__name__
        # A mention such as `vidaudio pack` or `vidaudio manifest` does not repeat what the command needs.
        unfinished = kind in ("MissingParameter", "NoArgsIsHelpError") and not command.complete
        return None if unfinished else f"{kind}: {error}"
    return recipe_problem(command.arguments[0], parameters) if command.complete else None


def recipe_problem(name: str, parameters: dict[str, Any]) -> str | None:
    """Return what is wrong with the recipe, the settings or the protocol of a command line; None if nothing is."""
    settings = [setting for setting in parameters.get("settings") or () if "$" not in setting]
    recipe = parameters.get("recipe")
    try:
        if name == "build":
            load_corpus_recipe("folder" if recipe.endswith(".yaml") else recipe, settings)
        elif name == "train":
            load_train_recipe("clipsep" if recipe.endswith(".yaml") else recipe, settings)
        elif name == "evaluate" and parameters["protocol"] not in ("split", "manifest"):
            find_recipe(parameters["protocol"], "manifests/protocols")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_of_the_documentation_is_accepted(command: Command):
    assert problem(command) is None


def test_enough_commands_are_found():
    assert {command.arguments[0] for command in COMMANDS} >= {
        "manifest", "build", "status", "verify", "pack", "pack-sounds", "export", "remove", "train", "evaluate",
        "separate", "listening-test", "demo", "report",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("status corpora/mine --jsn", "jsn"),
        ("bild folder", "bild"),
        ("manifest foldr videos -o a.parquet", "foldr"),
        ("build foldr --corpus c", "foldr"),
        ("build folder --set embed.encodr=demo", "encodr"),
        ("train clipsep --data d --run r --set schedul.steps=5", "schedul"),
        ("train clipsep --data d", "Missing parameter: run"),
        ("build folder --retry-failed=privat", "privat"),
        ("evaluate run --data d --protocol musick", "musick"),
    ],
)
def test_a_mistake_would_be_found(line: str, words: str):
    assert words in str(problem(Command("page", tuple(line.split()), complete=True)))


def yaml_blocks() -> list[tuple[str, str]]:
    return [(page.name, text) for page in PAGES for text in blocks(page, "yaml")]


@pytest.mark.parametrize(("page", "text"), yaml_blocks())
def test_a_recipe_of_the_documentation_is_accepted(page: str, text: str, tmp_path: Path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text)
    base = yaml.safe_load(text).get("extends")
    is_training = base is not None and (REPOSITORY / "train" / f"{base}.yaml").is_file()
    (load_train_recipe if is_training else load_corpus_recipe)(str(recipe))
