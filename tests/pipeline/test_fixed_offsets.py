"""Sounds that are put back in time by a pack: by the offset where it is sure, and nowhere else."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import soundfile

from vidaudio.config.corpus import PackBlock
from vidaudio.corpus.corpus import Corpus
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.packs.offsets import sure_offsets
from vidaudio.pipeline.build import pack
from vidaudio.shards.commit import decode_table, encode_table, read_table, table_name

LATE = 0.52


def planted(corpus: Corpus) -> tuple[str, str]:
    """Say of one clip that its sound is surely late, of another that it may be; return their ids."""
    name = table_name("scores/default", 0)
    path = Path(corpus.url, name)
    table, record = decode_table(path.read_bytes())
    rows = table.to_pylist()
    for row in rows:
        row |= {"offset_seconds": 0.0, "offset_confidence": 0.9}
    rows[0] |= {"offset_seconds": LATE, "offset_confidence": 0.95}
    rows[1] |= {"offset_seconds": LATE, "offset_confidence": 0.5}
    path.write_bytes(encode_table(pa.Table.from_pylist(rows, schema=table.schema.remove_metadata()), record))
    for shard in range(1, corpus.shards):
        other = Path(corpus.url, table_name("scores/default", shard))
        table, record = decode_table(other.read_bytes())
        zeros = pa.array(np.zeros(len(table)), pa.float32())
        place = table.schema.get_field_index("offset_seconds")
        other.write_bytes(encode_table(table.set_column(place, "offset_seconds", zeros), record))
    return rows[0]["id"], rows[1]["id"]


def samples(corpus: Corpus, name: str) -> dict[str, tuple[dict, np.ndarray]]:
    """Return JSON and sound of every sample of a pack, by the clip's id."""
    found = {}
    for path in sorted(Path(corpus.url, "training", name).glob("*.tar")):
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        for member in members:
            if member.endswith(".json"):
                told = json.loads(members[member])
                sound, _ = soundfile.read(io.BytesIO(members[member.removesuffix("json") + "flac"]), dtype="int16")
                found[told["id"]] = (told, sound)
    return found


def test_a_window_is_cut_where_the_sound_belongs(copied: Corpus):
    late, unsure = planted(copied)
    pack(copied.url, PackBlock(name="plain", window="middle"), progress=False)
    pack(copied.url, PackBlock(name="fixed", window="middle", fix_offset=0.8), progress=False)
    plain, fixed = samples(copied, "plain"), samples(copied, "fixed")
    assert set(plain) == set(fixed)
    for clip_id, (told, sound) in fixed.items():
        before = plain[clip_id][1]
        if clip_id == late:
            assert told["fixed_offset_seconds"] == pytest.approx(LATE, abs=1e-4)
            moved = round(LATE * 16_000)
            # What is heard with the same pictures is what was heard so much later before.
            assert np.array_equal(sound[: len(before) - moved], before[moved:])
        else:
            assert told["fixed_offset_seconds"] == 0
            assert np.array_equal(sound, before)
    assert unsure in fixed
    assert verify_corpus(copied.url).ok


def test_a_whole_clip_keeps_its_sound_and_moves_its_start(copied: Corpus):
    late, _ = planted(copied)
    pack(copied.url, PackBlock(name="plain"), progress=False)
    pack(copied.url, PackBlock(name="fixed", fix_offset=0.8), progress=False)
    plain, fixed = samples(copied, "plain"), samples(copied, "fixed")
    for clip_id, (told, sound) in fixed.items():
        assert np.array_equal(sound, plain[clip_id][1])
        moved = plain[clip_id][0]["audio_start_seconds"] - told["audio_start_seconds"]
        assert moved == pytest.approx(LATE if clip_id == late else 0, abs=1e-6)


def test_only_sure_offsets_of_two_frames_are_corrected():
    clips = pd.DataFrame(
        {"offset_seconds": [0.5, -0.5, 0.5, 0.04, None], "offset_confidence": [0.9, 0.8, 0.79, 1.0, 1.0]}
    )
    assert sure_offsets(clips, 0.8).tolist() == [0.5, -0.5, 0, 0, 0]


def test_scores_are_read_for_it(copied: Corpus):
    assert read_table(copied.store, table_name("scores/default", 0))[0].num_rows
    packed = PackBlock(name="fixed", fix_offset=0.9)
    pack(copied.url, packed, progress=False)
    assert json.loads(Path(copied.url, "training/fixed/pack.json").read_bytes())["settings"]["scorer"] == "default"
