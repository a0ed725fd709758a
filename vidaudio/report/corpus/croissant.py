"""Croissant metadata of a corpus (MLCommons, version 1.0): JSON-LD that dataset search and loaders read.

Paths are relative to the corpus's folder. What only the publisher knows is left out: creator, URL and date.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from vidaudio.corpus.columns import DOWNLOAD, EMBED, EXTRACT, FACTS, PACKS, SCORE, Column, embedding_schema
from vidaudio.corpus.corpus import Corpus
from vidaudio.hashing import sha256_of
from vidaudio.manifest import SCHEMA as LIST_SCHEMA
from vidaudio.report.corpus.facts import CLIPS, CorpusFacts
from vidaudio.report.corpus.measures import MEASURES
from vidaudio.report.corpus.pages import NOT_STATED

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
PARQUET, TAR = "application/x-parquet", "application/x-tar"
MOST_LICENCES = 25
# Descriptions of fields that are no measures.
_FIELDS = {
    "id": "Id of the clip.",
    "source": "Video that the clip is cut from, as site:video.",
    "dataset": "List that the clip is from.",
    "url": "Address or path that the clip is fetched from.",
    "start_seconds": "Start of the clip in its source, seconds.",
    "end_seconds": "End of the clip in its source, seconds; empty for the end of the source.",
    "split": "Split of the list; empty where the list has none.",
    "labels": "Labels of the clip.",
    "captions": "Captions of the clip.",
    "shard": "Number of the shard that holds the clip.",
    "state": "Outcome of the stage: done, dropped or failed.",
    "reason": "Reason of another outcome than done.",
    "message": "Message of the site or of the decoder.",
    "info": "What the video's page stated, as JSON: title, uploader, licence.",
    "frame_seconds": "Time of each picture on the clip's clock, seconds.",
    "embedding": "Vector of the picture.",
    "sound_vector": "Unit vector of the sound in the scorer's space.",
    "motion_envelope": "How much the picture moves, 25 values a second.",
    "onset_envelope": "How much the spectrum rises, 100 values a second.",
}
_STAGES = {
    DOWNLOAD.stage: "Media files of the clips, and what became of the fetching of each.",
    EXTRACT.stage: "Pictures and sound of every clip with the true time of each.",
    FACTS.stage: "What was measured of sound and picture of every clip.",
    EMBED.stage: "Vectors of the pictures, one row a picture.",
    SCORE.stage: "How well sound and pictures of every clip belong together.",
}


def describe_corpus(corpus: Corpus, facts: CorpusFacts) -> dict[str, Any]:
    """Return the metadata of a corpus, JSON-able.

    Args:
        corpus: Opened corpus.
        facts: Facts of the corpus.
    """
    columns = [column for column in (DOWNLOAD, EXTRACT, FACTS, EMBED, SCORE) if facts.parts.has(column.stage)]
    distribution = [_file(corpus, part.name) for part in corpus.parts]
    # A list that grew has several parts, which are one set of files.
    distribution.append(_file_set("clips-list", "manifest*.parquet", PARQUET, "The list of the clips."))
    records = [
        _records(
            "list", "The list: one row a clip, and a further one when it is tried again.", LIST_SCHEMA, "clips-list"
        )
    ]
    for column in columns:
        folder = facts.parts.folders[column.stage]
        tables = f"{column.stage}-tables"
        distribution.append(_file_set(tables, f"{folder}/*.parquet", PARQUET, _STAGES[column.stage]))
        if column.has_tars:
            about = f"Tars of the stage {column.stage}, each a plain WebDataset."
            distribution.append(_file_set(f"{column.stage}-tars", f"{folder}/*.tar", TAR, about))
        records.append(_records(column.stage, _STAGES[column.stage], _schema(column), tables))
    for pack in facts.status.packs:
        about = f"Training shards of the pack {pack.name}: {pack.samples:,} samples, each tar a plain WebDataset."
        distribution.append(_file_set(f"pack-{pack.name}", f"{PACKS}/{pack.name}/*.tar", TAR, about))
    described = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": facts.name,
        "description": _description(facts),
        "version": "1.0.0",
        "keywords": ["video", "audio", "audio-visual", "WebDataset"],
        "isLiveDataset": False,
        "distribution": distribution,
        "recordSet": records,
    }
    if licences := _licences(facts):
        described["license"] = licences
    return described


def _description(facts: CorpusFacts) -> str:
    told = [
        f"Sound and pictures of {facts.clips:,} clips, {facts.seconds / 3600:,.2f} hours, of a list of "
        f"{facts.status.clips:,} clips.",
        "The clips belong to those who made and uploaded them; this description grants no licence.",
    ]
    labels = facts.groups["label"]
    if len(labels):
        largest = ", ".join(f"{total.name} ({total.sums[CLIPS]:,.0f})" for total in labels.largest(5))
        told.append(f"Largest labels: {largest}.")
    if facts.scorer is not None and facts.scorer.above_chance:
        low, high = facts.scorer.mismatched_interval
        told.append(
            f"An estimated {facts.scorer.mismatched_share:.1%} of the clips have sound and pictures that do not belong "
            f"together (95 % interval {low:.1%} to {high:.1%})."
        )
    return " ".join(told)


def _licences(facts: CorpusFacts) -> list[str]:
    """Return the licences that the clips' pages stated, most frequent first."""
    return [total.name for total in facts.groups["licence"].largest(MOST_LICENCES) if total.name != NOT_STATED]


def _schema(column: Column) -> pa.Schema:
    return embedding_schema() if column.schema is None or column.stage == EMBED.stage else column.schema


def _file(corpus: Corpus, name: str) -> dict[str, Any]:
    sha256, size = _checksum(corpus, name)
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": "A part of the list of the clips.",
        "contentUrl": name,
        "contentSize": f"{size} B",
        "encodingFormat": PARQUET,
        "sha256": sha256,
    }


def _checksum(corpus: Corpus, name: str) -> tuple[str, int]:
    """Return the SHA-256 and the bytes of a file of any size."""
    local = corpus.store.local_path(name)
    if local is not None:
        return sha256_of(local), local.stat().st_size
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "part"
        corpus.store.download(name, copy)
        return sha256_of(copy), copy.stat().st_size


def _file_set(name: str, pattern: str, encoding: str, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "description": description,
        "encodingFormat": encoding,
        "includes": pattern,
    }


def _records(name: str, description: str, schema: pa.Schema, files: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "field": [_field(name, field, files) for field in schema],
    }


def _field(records: str, field: pa.Field, files: str) -> dict[str, Any]:
    is_list = pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)
    described: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{records}/{field.name}",
        "name": field.name,
        "description": _field_description(field.name),
        "dataType": _data_type(field.type.value_type if is_list else field.type),
        "source": {"fileSet": {"@id": files}, "extract": {"column": field.name}},
    }
    if is_list:
        described["repeated"] = True
    if field.name == "id" and records != "list":
        described["references"] = {"field": {"@id": "list/id"}}
    return described


def _field_description(name: str) -> str:
    measure = next((measure for measure in MEASURES if measure.name == name), None)
    if measure is not None:
        return f"{measure.definition}{f' Unit: {measure.unit}.' if measure.unit else ''}"
    return _FIELDS.get(name, f"The field {name}; see the documentation of vidaudio.")


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"
