"""Checks of tables that a model wrote: valid checksum, only clips of the shard, and no removed clips."""

from __future__ import annotations

from collections.abc import Collection

from vidaudio.corpus.columns import column_of
from vidaudio.corpus.corpus import Corpus
from vidaudio.maintenance.verify.files import checked_table, named
from vidaudio.maintenance.verify.findings import Findings
from vidaudio.shards.commit import table_name

SCORE_AGAIN = "delete it and run the command that wrote it again"
REMOVE_AGAIN = "run `vidaudio remove` with it again, or the next build: it is swept"


def check_model_table(
    corpus: Corpus, shard: int, folder: str, ids: Collection[str], removed: Collection[str], findings: Findings
) -> None:
    """Check one shard's table in a model's folder.

    Args:
        corpus: Opened corpus.
        shard: Shard number; the table must exist.
        folder: Folder of the model, `scores/NAME`.
        ids: Ids of the shard's clips.
        removed: Those of the ids that must not occur in any table.
        findings: Findings that problems are added to.
    """
    name = table_name(folder, shard)
    read = checked_table(corpus.store, name, findings, SCORE_AGAIN)
    if read is None:
        return
    table, record = read
    stage = column_of(folder).stage
    if (record.stage, record.shard, record.rows) != (stage, shard, table.num_rows) or "id" not in table.column_names:
        findings.add_problem(name, f"is the table of {record.stage}, shard {record.shard}", SCORE_AGAIN)
        return
    own = table["id"].to_pylist()
    if strange := sorted(set(own) - set(ids)):
        findings.add_problem(name, f"has rows of clips that the shard does not have: {named(strange)}", SCORE_AGAIN)
    if late := sorted(set(own) & set(removed)):
        findings.add_problem(name, f"has rows of clips that were removed: {named(late)}", REMOVE_AGAIN)
