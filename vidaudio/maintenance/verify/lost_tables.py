"""Detection of lost tables: tables that must exist because a pack was made from them, unlike tables not built yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.media_retention import fetch_again
from vidaudio.maintenance.verify.files import BUILD_AGAIN_ALONE
from vidaudio.maintenance.verify.findings import Findings
from vidaudio.maintenance.verify.packs import Pack
from vidaudio.shards.commit import table_name


class LostTables:
    """Distinction of lost tables from tables that are not built yet.

    Packing requires every shard that the corpus has at that time to be embedded. If any pack exists, all tables of the
    first manifest part must therefore exist. Those of a later part must exist if a pack contains a clip of that part or
    of a newer one. Any other missing table has not been built yet.

    Args:
        corpus: Corpus to check.
        listings: Files and sizes, by stage folder.
    """

    def __init__(self, corpus: Corpus, listings: Mapping[str, Mapping[str, int]]) -> None:
        self._corpus, self._listings = corpus, listings
        # By folder: how many of the first shards must exist, and the pack that needs them.
        self._owed: dict[str, tuple[int, str]] = {}

    def add(self, pack: Pack) -> None:
        """Record the columns that a pack needs; call after its training shards were read."""
        parts = self._corpus.parts
        shards = next(p.first_shard + p.shards for p in parts if pack.last_shard < p.first_shard + p.shards)
        for folder in ("clips", "av", *_embeddings(pack)):
            self._owed[folder] = max(self._owed.get(folder, (0, "")), (shards, pack.folder))

    def lost_vectors(self, pack: Pack) -> list[str]:
        """Return the names of lost embedding tables that this pack was made from; call after `add`."""
        return [
            table_name(folder, shard)
            for folder in _embeddings(pack)
            for shard in self._absent(folder)
            if shard < self._owed[folder][0]
        ]

    def report_to(self, media_kept: Sequence[bool], findings: Findings) -> None:
        """Report a problem for every lost table, and a note for each column that is only unfinished.

        Args:
            media_kept: By shard, False if its media were deleted on purpose or never stored in the corpus.
            findings: Findings that problems and notes are added to.
        """
        total = self._corpus.shards
        for folder in dict.fromkeys([*self._listings, *self._owed]):
            absent = self._absent(folder)
            owed, pack = self._owed.get(folder, (0, ""))
            lost = [shard for shard in absent if shard < owed]
            for shard in lost:
                # If a table made from this one exists, its own check has already reported the loss.
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


def _embeddings(pack: Pack) -> list[str]:
    return [f"embeddings/{column.encoder}" for column in pack.described.vector_columns]
