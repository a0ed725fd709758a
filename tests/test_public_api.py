"""`import vidaudio`: what it offers, and what it costs."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import vidaudio
from vidaudio.cli.app import app

# Commands whose function has another name, because a subpackage has the command's.
OTHERWISE = {
    "demo": ("run_demo",),
    "listening-test": ("make_listening_test", "tally_listening_test"),
    "report": ("make_report",),
}


def _in_a_process(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_importing_it_loads_the_standard_library_alone():
    loaded = _in_a_process("import sys; before = set(sys.modules); import vidaudio; print(*set(sys.modules) - before)")
    assert {name.partition(".")[0] for name in loaded.split()} <= {"vidaudio", *sys.stdlib_module_names}
    assert {name for name in loaded.split() if name.startswith("vidaudio")} == {"vidaudio"}


def test_every_command_is_a_function_of_its_own_name():
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        for function in OTHERWISE.get(name, (name.replace("-", "_"),)):
            assert inspect.isfunction(getattr(vidaudio, function)), function


@pytest.mark.parametrize("name", sorted(vidaudio._HOMES))
def test_a_public_name_is_found_and_described(name: str):
    found = getattr(vidaudio, name)
    assert inspect.getdoc(found)
    assert name in dir(vidaudio)
    assert inspect.isclass(found) == name[0].isupper()


def test_type_checkers_see_the_same_names():
    """The lazy table and the imports for type checkers name the same things at the same places."""
    tree = ast.parse(Path(vidaudio.__file__).read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {}
    for node in ast.walk(blocks[0]):
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                seen[name.asname or name.name] = (node.module, name.name)
    table = {name: (home, name) if isinstance(home, str) else home for name, home in vidaudio._HOMES.items()}
    assert seen == table
    assert Path(vidaudio.__file__).with_name("py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'vidaudio' has no attribute 'biuld'"):
        vidaudio.biuld  # noqa: B018
    assert vidaudio.__version__ == importlib.metadata.version("vidaudio")
