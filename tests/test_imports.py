"""The layers of the package: imports point downward only, and no modules import each other in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import vidaudio

PACKAGE = Path(vidaudio.__file__).parent
# From the bottom to the top. Rooms of one layer may not import each other; modules that lie directly in the package
# are named as rooms; the package's own module imports nothing before it is asked for a name.
LAYERS = (
    {"__init__", "errors", "markdown", "text", "cpus", "paths", "files", "hashing"}
    | {"json_values", "noise_schedules", "output_folder", "parent_process", "torchscript", "vector_index"},
    {"expressions", "shards", "separation", "modality_gap", "correspondence", "generation"},
    {"config"},
    {"media"},
    {"manifest"},
    {"stream"},
    {"encoders"},
    {"corpus"},
    {"packs"},
    {"maintenance"},
    {"pipeline"},
    {"training"},
    {"tasks"},
    {"clip_search"},
    {"report"},
    {"demo"},
    {"cli"},
    {"__main__"},
)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> Iterator[str]:
    """Yield the modules of the package that a module imports, at its top or when a function runs, but not for types."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if inner in MODULES else node.module


EDGES = {module: sorted({name for name in imports(path) if name != module}) for module, path in MODULES.items()}
RANKS = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def test_every_room_has_a_layer():
    assert {room(module) for module in MODULES} == set(RANKS)


@pytest.mark.parametrize("name", sorted(RANKS))
def test_a_room_imports_from_below_only(name: str):
    root = RANKS[name] == 0
    upward = [
        f"{module} imports {other}"
        for module, others in EDGES.items()
        for other in others
        if room(module) == name != room(other)
        and (RANKS[room(other)] > RANKS[name] or (RANKS[room(other)] == RANKS[name] and not root))
    ]
    assert upward == []


def circles(edges: dict[str, list[str]]) -> list[list[str]]:
    """Return the groups of modules that reach each other (Tarjan's strongly connected components of two and more)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in edges[module]:
            if other not in index:
                visit(other)
            if other in stack:
                low[module] = min(low[module], low[other])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in edges:
        if module not in index:
            visit(module)
    return found


def test_no_modules_import_each_other_in_a_circle():
    assert circles(EDGES) == []


def test_a_circle_is_found_and_named():
    assert circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [["a", "b", "c"]]
