"""Tables of a column that a model wrote: each is sealed, of the shard's clips, and of no removed one."""

from __future__ import annotations

from collections.abc import Collection

from vidaudio.corpus.columns import column_of
from vidaudio.corpus.corpus import Corpus
from vidaudio.maintenance.verify.files import named, sealed_table
from vidaudio.maintenance.verify.findings import Findings
from vidaudio.shards.commit import table_name

SCORE_AGAIN = "delete it and run the command that wrote it again"
REMOVE_AGAIN = "run `vidaudio remove` with it again, or the next build: it is swept"


def check_model_table(
    corpus: Corpus, shard: int, folder: str, ids: Collection[str], removed: Collection[str], findings: Findings
) -> None:
    """Check one shard's table of a model's folder.

    Args:
        corpus: Opened.
        shard: Its number; a table must stand there.
        folder: `scores/NAME`.
        ids: Of the shard's clips.
        removed: Of those of them that must be nowhere.
        findings: Added to.
    """
    name = table_name(folder, shard)
    read = sealed_table(corpus.store, name, findings, SCORE_AGAIN)
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
