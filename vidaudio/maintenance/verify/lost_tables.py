"""Tables that must stand because something was made from them: whether a build is unfinished or a table was lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.media_retention import fetch_again
from vidaudio.maintenance.verify.files import BUILD_AGAIN_ALONE
from vidaudio.maintenance.verify.findings import Findings
from vidaudio.maintenance.verify.packs import Pack
from vidaudio.shards.commit import table_name


class LostTables:
    """Which shards' tables a corpus's packs were made from.

    A pack is planned once every shard that the corpus has at that moment is embedded. So the tables of the first list's
    shards must stand where any pack does, and those of a later part where a pack has a clip of it or of one behind it.
    What is missing otherwise has not been made yet.

    Args:
        corpus: Whose.
        listings: Files and sizes of every stage's folder.
    """

    def __init__(self, corpus: Corpus, listings: Mapping[str, Mapping[str, int]]) -> None:
        self._corpus, self._listings = corpus, listings
        # By folder: how many shards must stand, and for which pack.
        self._owed: dict[str, tuple[int, str]] = {}

    def add(self, pack: Pack) -> None:
        """Count a pack's columns in, after its training shards were read."""
        parts = self._corpus.parts
        shards = next(p.first_shard + p.shards for p in parts if pack.last_shard < p.first_shard + p.shards)
        for folder in ("clips", "av", f"embeddings/{pack.described.encoder}"):
            self._owed[folder] = max(self._owed.get(folder, (0, "")), (shards, pack.folder))

    def lost_vectors(self, pack: Pack) -> list[str]:
        """Tables of vectors that this pack was made from and that are lost, after it was added."""
        folder = f"embeddings/{pack.described.encoder}"
        owed, _ = self._owed[folder]
        return [table_name(folder, shard) for shard in self._absent(folder) if shard < owed]

    def report_to(self, media_kept: Sequence[bool], findings: Findings) -> None:
        """A problem for every table that is lost, and a note for columns that are only not finished.

        Args:
            media_kept: By shard, False where its media were let go, or never came into the corpus.
            findings: Added to.
        """
        total = self._corpus.shards
        for folder in dict.fromkeys([*self._listings, *self._owed]):
            absent = self._absent(folder)
            owed, pack = self._owed.get(folder, (0, ""))
            lost = [shard for shard in absent if shard < owed]
            for shard in lost:
                # A column that stands without the one before it has said so already.
                if not self._is_told(folder, shard):
                    kept = folder != "av" or media_kept[shard]
                    remedy = BUILD_AGAIN_ALONE if kept else fetch_again(shard)
                    findings.add_problem(table_name(folder, shard), f"is missing, and {pack} was made from it", remedy)
            if len(absent) > len(lost):
                standing = total - len(absent)
                findings.notes.append(f"{folder} has {standing:,} of {total:,} shards: the build is not finished")

    def _absent(self, folder: str) -> list[int]:
        sizes = self._listings.get(folder, {})
        return [shard for shard in range(self._corpus.shards) if f"{shard:06d}.parquet" not in sizes]

    def _is_told(self, folder: str, shard: int) -> bool:
        behind = {"clips": lambda name: name == "av", "av": lambda name: name.startswith("embeddings/")}.get(folder)
        name = f"{shard:06d}.parquet"
        return behind is not None and any(behind(f) and name in sizes for f, sizes in self._listings.items())
