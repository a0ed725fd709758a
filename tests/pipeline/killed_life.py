"""Strikes a command behind its writes, one after the other, for real; run by the tests as a process of its own.

For a write: the corpus is copied, a child does the work and kills itself with SIGKILL behind it, and another child does
the same work to its end. The children are forked from here, where everything is loaded and no thread runs.

The task is JSON: `base` and `work`, the corpus and where to copy it; `action`, a `download.keep`, or `remove` with
`ids`; `every`, to strike behind every so-manieth write only; `decoder: here`, to decode in the children themselves,
where starting a process for it would take most of the time. Printed, as JSON, are `writes`, the names of what is
written in an undisturbed run, `struck`, their places, and `wrong`, the runs that did not end in the expected bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tests.media_world import world_run
from vidaudio.corpus.corpus import open_corpus
from vidaudio.maintenance.remove import enforce_removals, remove
from vidaudio.media.decode.extractor import Extracted, Extractor, MediaSpan
from vidaudio.media.decode.worker import run_job
from vidaudio.media.outcomes import Outcome, Reason, State
from vidaudio.pipeline.stages import extract as extracting
from vidaudio.pipeline.stages import fused as keeping
from vidaudio.pipeline.stages import shard_stages
from vidaudio.shards import store
from vidaudio.shards.commit import table_name
from vidaudio.shards.maintenance_lock import LOCK_FILE, maintenance_lock
from vidaudio.shards.store import LocalStore


def fetch_and_extract(url: str, keep: str) -> None:
    """What a build with this `download.keep` does to download and extract, in this process."""
    corpus = open_corpus(url)
    run = world_run(keep=keep)
    with maintenance_lock(corpus.store):
        keeping.finish_interrupted(corpus, keep)
        enforce_removals(corpus)
    for shard in range(corpus.shards):
        for stage in shard_stages(keep)[:2]:
            if not corpus.store.exists(table_name(stage.column.folder, shard)):
                stage.run(corpus, shard, stage.column.folder, run)


# The lock and the notes of runs say nothing of the corpus's contents; their own tests strike there.
UNCOUNTED = (LOCK_FILE, "runs/")


def behind_writes(act: Callable[[int, str], None]) -> None:
    """Call `act` with number and name of every write of this process that counts, right behind it."""
    passed = 0

    def watched(original: Callable) -> Callable:
        def wrapped(*arguments, **options):
            nonlocal passed
            result = original(*arguments, **options)
            if not arguments[1].startswith(UNCOUNTED):
                passed += 1
                act(passed, f"{original.__name__} {arguments[1]}")
            return result

        return wrapped

    for name in ("put", "put_new", "remove"):
        setattr(LocalStore, name, watched(getattr(LocalStore, name)))


class DecoderHere(Extractor):
    """The decoder's own work, in this process."""

    def _ask(self, span: MediaSpan) -> Extracted:
        job = {"path": str(span.path), "offset": span.offset, "length": span.length}
        job |= {"start_seconds": span.start_seconds, "end_seconds": span.end_seconds}
        job |= {"options": self.options.decode_options(), "jpeg_quality": self.options.jpeg_quality}
        answer = run_job(job)
        header = answer.header
        if header["state"] == "done":
            return Extracted(Outcome.done(), header["facts"], answer.parts, header["measured"] | answer.envelopes)
        return Extracted(Outcome(State(header["state"]), Reason(header["reason"]), header["message"]))


def preload() -> None:
    """Load what the work needs, so that the forked children need not, each anew."""
    import psutil
    from distributed import get_worker

    from vidaudio.media.fetch import cut
    from vidaudio.media.fetch import source as fetch
    from vidaudio.packs import card
    from vidaudio.packs import write as pack

    del psutil, get_worker, cut, fetch, card, pack


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
    store.sync = store.sync_folder = lambda path: None
    if task.get("decoder") == "here":
        extracting.Extractor = DecoderHere
    preload()
    base, work = Path(task["base"]), Path(task["work"])

    def act() -> None:
        if task["action"] == "remove":
            remove(str(work), task["ids"], progress=False)
        else:
            refuse_committed()
            fetch_and_extract(str(work), task["action"])

    def struck_at(write: int) -> Callable[[], None]:
        def strike(number: int, name: str) -> None:
            if number == write:
                os.kill(os.getpid(), signal.SIGKILL)

        def struck() -> None:
            behind_writes(strike)
            act()

        return struck

    def noted() -> None:
        with Path(task["work"] + ".writes").open("w") as notes:
            behind_writes(lambda number, name: notes.write(f"{name}\n"))
            act()

    def copied() -> None:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(base, work)

    copied()
    assert in_child(noted) == 0
    expected = contents(work)
    writes = Path(task["work"] + ".writes").read_text().splitlines()
    assert in_child(act) == 0
    wrong = [] if contents(work) == expected else ["a second run"]
    every = task.get("every", 1)
    struck = range(every, len(writes) + 1, every)
    for write in struck:
        copied()
        assert os.WIFSIGNALED(in_child(struck_at(write)))
        if in_child(act) != 0 or contents(work) != expected:
            wrong.append(f"behind {writes[write - 1]}")
    print(json.dumps({"writes": writes, "struck": list(struck), "wrong": wrong}))


if __name__ == "__main__":
    main()
