"""Detection of lost tables: tables that must exist because a pack was made from them, unlike tables not built yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vidaudio.corpus.columns import EMBED, EXTRACT, Column, column_of, columns_in_order, with_needs
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.media_retention import fetch_again
from vidaudio.maintenance.verify.files import BUILD_AGAIN_ALONE
from vidaudio.maintenance.verify.findings import Findings
from vidaudio.maintenance.verify.packs import Pack, pack_models
from vidaudio.shards.commit import table_name


class LostTables:
    """Distinction of lost tables from tables that are not built yet.

    Packing requires all shards that the corpus has at that time in every column that the pack reads. If any pack
    exists, all their tables of the first manifest part must therefore exist. Those of a later part must exist if a pack
    contains a clip of that part or of a newer one. Any other missing table has not been built yet.

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
        for folder in self._folders(pack, with_needs(column.stage for column in pack.columns)):
            self._owed[folder] = max(self._owed.get(folder, (0, "")), (shards, pack.folder))

    def lost(self, pack: Pack) -> list[str]:
        """Return the names of the lost tables that this pack was planned from, besides av; call after `add`."""
        lost = []
        for folder in self._folders(pack, pack.columns):
            owed, _ = self._owed[folder]
            lost += [table_name(folder, shard) for shard in self._absent(folder) if shard < owed]
        return lost

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
                    kept = folder != EXTRACT.folder or media_kept[shard]
                    remedy = BUILD_AGAIN_ALONE if kept else fetch_again(shard)
                    findings.add_problem(table_name(folder, shard), f"is missing, and {pack} was made from it", remedy)
            if len(absent) > len(lost):
                standing = total - len(absent)
                findings.notes.append(f"{folder} has {standing:,} of {total:,} shards: the build is not finished")

    def _folders(self, pack: Pack, columns: Iterable[Column]) -> list[str]:
        """Return the folders of columns that a pack was made from; those of all encoders whose vectors it has."""
        models = pack_models(pack.described)
        found = []
        for column in columns:
            if column.stage == EMBED.stage:
                found += [column.model_folder(vectors.encoder) for vectors in pack.described.vector_columns]
            elif not column.per_model or column.stage in models:
                found.append(column.folder_for(models))
        return found

    def _absent(self, folder: str) -> list[int]:
        sizes = self._listings.get(folder, {})
        return [shard for shard in range(self._corpus.shards) if f"{shard:06d}.parquet" not in sizes]

    def _is_told(self, folder: str, shard: int) -> bool:
        stage, name = column_of(folder).stage, f"{shard:06d}.parquet"
        made_from = [column for column in columns_in_order() if stage in column.needs]
        standing = [other for other, sizes in self._listings.items() if name in sizes]
        return any(column.owns(other) for column in made_from for other in standing)
