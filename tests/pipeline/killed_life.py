"""Strikes a command after each of its writes in turn, for real; run by the tests as a process of its own.

For every k: the corpus is copied, a child does the work and kills itself with SIGKILL behind its k-th write, and
another child does the same work to its end. The children are forked from here, where everything is loaded and no thread
runs. Prints, as JSON, how many points were struck and which runs did not end in the expected bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from vidaudio.pipeline import keep as keeping
from vidaudio.pipeline.corpus import open_corpus
from vidaudio.pipeline.remove import enforce_removals, remove
from vidaudio.pipeline.stages import shard_stages
from vidaudio.shards import store
from vidaudio.shards.commit import table_name
from vidaudio.shards.store import LocalStore
from vidaudio.shards.upkeep import LOCK_FILE, upkeep


def fetch_and_extract(url: str, keep: str) -> None:
    """What a build with this `download.keep` does to download and extract, in this process."""
    opened = open_corpus(url)
    block = opened.recipe.download.model_copy(update={"keep": keep})
    corpus = opened.__class__(
        opened.store,
        opened.recipe.model_copy(update={"download": block}),
        opened.plan_hash,
        opened.parts,
        opened.files,
    )
    with upkeep(corpus.store):
        keeping.finish_interrupted(corpus)
        enforce_removals(corpus)
    for shard in range(corpus.shards):
        for stage in shard_stages("unset", keep)[:2]:
            if not corpus.store.exists(table_name(stage.folder, shard)):
                stage.run(corpus, shard, stage.folder)


def strike_behind(write: int) -> None:
    """Kill this process behind its so-manieth write."""
    passed = 0

    def struck(original: Callable) -> Callable:
        def wrapped(*arguments, **options):
            nonlocal passed
            result = original(*arguments, **options)
            # The lock says nothing of the corpus's contents; its own test strikes there.
            passed += arguments[1] != LOCK_FILE
            if passed == write and arguments[1] != LOCK_FILE:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    for name in ("put", "put_new", "remove"):
        setattr(LocalStore, name, struck(getattr(LocalStore, name)))


def refuse_committed() -> None:
    """Whoever fetches a shard whose av stands fetches it twice."""
    original = keeping.fetch_shard

    def wrapped(corpus, shard, *arguments, **options):
        assert not corpus.store.exists(table_name("av", shard)), "fetched twice"
        return original(corpus, shard, *arguments, **options)

    keeping.fetch_shard = wrapped


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but runs/, tombstones (which bear the time) and scratch."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {n: p.read_bytes() for n, p in files.items() if not n.startswith(("runs/", "removed-", ".tmp-"))}


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process; its exit status as `waitpid` has it."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def main() -> None:
    task = json.loads(sys.argv[1])
    # A kill loses nothing that the system was given; only a power cut would, and flushing takes most of the time.
    store._flush_to_disk = lambda path: None
    base, work = Path(task["base"]), Path(task["work"])

    def act() -> None:
        if task["action"] == "remove":
            remove(str(work), task["ids"], progress=False)
        else:
            refuse_committed()
            fetch_and_extract(str(work), task["action"])

    def struck_at(write: int) -> Callable[[], None]:
        def struck() -> None:
            strike_behind(write)
            act()

        return struck

    def copied() -> None:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(base, work)

    copied()
    assert in_child(act) == 0
    expected = contents(work)
    assert in_child(act) == 0
    wrong = [] if contents(work) == expected else ["a second run"]
    points = 0
    while True:
        copied()
        status = in_child(struck_at(points + 1))
        if not os.WIFSIGNALED(status):
            assert status == 0
            break
        points += 1
        if in_child(act) != 0 or contents(work) != expected:
            wrong.append(str(points))
    print(json.dumps({"points": points, "wrong": wrong}))


if __name__ == "__main__":
    main()
