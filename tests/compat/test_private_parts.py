"""Parts of other libraries that they do not promise to keep, and that this package leans on.

Where a release removes one, the test here says which, and which module has to be changed; elsewhere it would only show
as a strange failure of a download or a training. A part that is not in the list is found by the second test.
"""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "vidaudio"


@dataclass(frozen=True)
class PrivatePart:
    """One part: where it is, who leans on it, and what for."""

    module: str
    name: str
    used_by: str
    why: str


PARTS = (
    PrivatePart("_csv", "Error", "manifest/text.py", "the type of csv's errors, for annotations"),
    PrivatePart("hashlib", "_Hash", "corpus/shard_plan.py", "an annotation; never looked up when the program runs"),
    PrivatePart("yt_dlp.networking._requests", "RequestsRH._send", "media/fetch/request_guard.py", "guards requests"),
    PrivatePart(
        "yt_dlp.networking._requests", "RequestsRH._create_instance", "media/fetch/request_guard.py", "own connections"
    ),
    PrivatePart(
        "yt_dlp.networking._requests", "RequestsHTTPAdapter", "media/fetch/request_guard.py", "pools of connections"
    ),
    PrivatePart("yt_dlp.networking._urllib", "UrllibRH._send", "media/fetch/request_guard.py", "guards requests"),
    PrivatePart("urllib3.connection", "HTTPConnection._new_conn", "media/fetch/request_guard.py", "checks addresses"),
    PrivatePart("urllib3.connection", "HTTPSConnection._new_conn", "media/fetch/request_guard.py", "checks addresses"),
    PrivatePart(
        "botocore.parsers", "BaseXMLResponseParser._handle_structure", "shards/s3_driver.py", "reads listings fast"
    ),
    PrivatePart("torch", "UntypedStorage._new_shared", "stream/batch_memory.py", "batches in shared memory"),
    PrivatePart(
        "torch.utils.data", "DataLoader._get_iterator", "training/loader_processes.py", "knows the loader's processes"
    ),
    PrivatePart(
        "torch.utils.data.dataloader",
        "_MultiProcessingDataLoaderIter._shutdown_workers",
        "training/loader_processes.py",
        "ends the loader's processes",
    ),
    PrivatePart("multiprocessing.process", "_children", "training/loader_processes.py", "forgets ended processes"),
)
# Attributes of objects that other libraries made, which no import names.
OF_OBJECTS = {"_printed_messages": "media/fetch/ytdlp.py"}
# A documented function of `os`, and a method of a class of our own in another module.
NOT_PRIVATE = {"_exit", "_environment"}


@pytest.mark.parametrize("part", [p for p in PARTS if p.name != "_Hash"], ids=lambda part: f"{part.module}.{part.name}")
def test_a_part_is_there(part: PrivatePart):
    try:
        found = importlib.import_module(part.module)
        for name in part.name.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{part.module.partition('.')[0]} has no {part.module}.{part.name} any more ({error}): {part.why}; "
                    f"change vidaudio/{part.used_by}")  # fmt: skip


def test_yt_dlp_keeps_the_messages_that_its_extractors_printed():
    from yt_dlp import YoutubeDL

    with YoutubeDL({"quiet": True}) as downloader:
        extractor = downloader.get_info_extractor("Generic")
        changed = "yt-dlp keeps its printed messages elsewhere: change begin_source in vidaudio/media/fetch/ytdlp.py"
        assert extractor in getattr(downloader, "_ies_instances", {}).values(), changed
        assert isinstance(getattr(extractor, "_printed_messages", None), set), changed


def test_every_private_part_that_is_used_is_in_the_list():
    known = {(part.used_by, word) for part in PARTS for word in f"{part.module}.{part.name}".split(".")}
    known |= {(module, name) for name, module in OF_OBJECTS.items()}
    used = {use for path in sorted(PACKAGE.rglob("*.py")) for use in _private_uses(path)}
    assert {use for use in used if use not in known} == set()
    listed = {(part.used_by, part.name.rpartition(".")[2]) for part in PARTS}
    assert {use for use in listed if use[1].startswith("_")} <= used, "the list names a part that is used no more"


def _private_uses(path: Path) -> set[tuple[str, str]]:
    """Return the private names of others that a module imports or reads, with the module's place."""
    tree, place = ast.parse(path.read_text()), path.relative_to(PACKAGE).as_posix()
    own = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    own |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "self"}
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(word for alias in node.names for word in alias.name.split("."))
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith(("vidaudio", "__future__")):
            names.update(word for alias in node.names for word in f"{node.module}.{alias.name}".split("."))
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            calls_parent = isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()"
            if calls_parent or (node.attr not in own and ast.unparse(node.value) not in ("self", "cls")):
                names.add(node.attr)
    private = {name for name in names if name.startswith("_") and not name.startswith("__")}
    return {(place, name) for name in private - NOT_PRIVATE}
