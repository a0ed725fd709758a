"""Measuring of what is heard from off screen, over a corpus, shard by shard on Dask."""

from __future__ import annotations

import csv
import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.corpus.columns import EMBED, OFFSCREEN
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.correspondence.offscreen import LEAST_HEARD, PROMPTS, MusicTagger
from vidaudio.encoders.clip import ClipEncoder
from vidaudio.encoders.image import PictureEncoder
from vidaudio.errors import ScorerError
from vidaudio.json_values import parse_object
from vidaudio.pipeline.column_run import run_column
from vidaudio.pipeline.stages import Stage
from vidaudio.pipeline.stages.embed import recorded_encoder
from vidaudio.pipeline.stages.scored_clips import check_sample_rate
from vidaudio.shards.commit import read_table, table_name
from vidaudio.tasks.correspondence.offscreen_stage import DESCRIBED_IN, Tools, file_hash, offscreen_shard
from vidaudio.tasks.picture_encoder import load_picture_encoder
from vidaudio.tasks.separation.checkpoint import load_checkpoint, read_separator
from vidaudio.tasks.separation.query_factory import make_query_encoder

# Decimals of the sentences' vectors in the description.
DECIMALS = 6
SPEECH_PACKAGE = "silero-vad"
# Residual above which the separator finds little of the sound in the pictures.
MUCH_LEFT_DB = -3.0


@dataclass(frozen=True)
class OffscreenReport:
    """How much of a corpus is heard from off screen; `str` gives it as text.

    Attributes:
        corpus: The corpus.
        clips: Number of measured clips.
        speech: Clips with speech in at least 30 % of the time.
        voice_over: Clips with speech and nobody who may speak; None where the encoder knows no words.
        music_over_picture: Clips with music and no player; None without a tagger.
        much_left: Clips of which a separator leaves more than half of the energy behind; None without one.
    """

    corpus: str
    clips: int
    speech: int
    voice_over: int | None
    music_over_picture: int | None
    much_left: int | None

    def as_dict(self) -> dict[str, str | int | None]:
        """Return the report, JSON-able."""
        return asdict(self)

    def __str__(self) -> str:
        def shown(count: int | None, lacking: str) -> str:
            return f"not known ({lacking})" if count is None else f"{count:,}"

        return "\n".join(
            [
                f"{self.corpus}: {self.clips:,} clips measured",
                f"  speech                {self.speech:,}",
                f"  voice-over            {shown(self.voice_over, 'the encoder of the pictures knows no words')}",
                f"  music over picture    {shown(self.music_over_picture, 'give a tagger: --tagger')}",
                f"  more than half left   {shown(self.much_left, 'give a separator: --separator')}",
            ]
        )


def offscreen(
    corpus: str,
    *,
    separator: str | Path | None = None,
    tagger: str | Path | None = None,
    tagger_classes: str | Path | None = None,
    encoder_weights: str | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> OffscreenReport:
    """Measure what is heard from off screen in every clip of a corpus that is not measured yet.

    Args:
        corpus: Folder or fsspec URL of a corpus that is extracted and embedded.
        separator: Folder or weights file of a trained system that is asked by the corpus's own vectors.
        tagger: TorchScript file of a tagger, see `MusicTagger`.
        tagger_classes: CSV or text file with the names of its classes, one a line, as YAMNet's class map.
        encoder_weights: Local weights of the encoder of the pictures, used instead of the recorded place.
        scheduler: Address of a Dask scheduler; a local cluster by default.
        progress: Whether to show a progress bar.

    Raises:
        ScorerError: When a tool does not fit, or the corpus was measured with others.
        EncoderError: When the encoder of the pictures cannot be loaded.
        CorpusError: When a shard is not extracted and embedded yet.
        BuildError: When a task failed. Committed shards stay.
    """
    opened = open_corpus(corpus)
    check_sample_rate(opened)
    if (tagger is None) != (tagger_classes is None):
        raise ScorerError("--tagger and --tagger-classes go together: the file, and the names of its classes")
    _describe(opened, separator, tagger, tagger_classes, encoder_weights)
    models = {EMBED.stage: Tools.of(opened).encoder}
    run_column(opened, Stage(OFFSCREEN, offscreen_shard), models, scheduler=scheduler, progress=progress)
    return _report(opened)


def _describe(
    corpus: Corpus,
    separator: str | Path | None,
    tagger: str | Path | None,
    tagger_classes: str | Path | None,
    encoder_weights: str | None,
) -> None:
    """Record which tools the facts are made with; they stay the same for the whole corpus.

    Raises:
        ScorerError: When a tool does not fit, or others are recorded.
    """
    if corpus.store.exists(DESCRIBED_IN) and separator is None and tagger is None:
        return
    name = recorded_encoder(corpus)
    fingerprint = parse_object(corpus.store.read(EMBED.described_in(name)))
    weights = None if separator is None else _separator_file(separator, fingerprint)
    tools = Tools(
        encoder=name,
        prompts=_prompts(load_picture_encoder(corpus, name, encoder_weights)),
        tagger=None if tagger is None else str(Path(tagger).absolute()),
        tagger_sha256=None if tagger is None else _tagger_hash(tagger),
        music_classes=() if tagger_classes is None else tuple(music_classes(tagger_classes)),
        separator=None if weights is None else str(weights),
        separator_sha256=None if weights is None else file_hash(weights),
        speech_detector=f"{SPEECH_PACKAGE} {importlib.metadata.version(SPEECH_PACKAGE)}",
    )
    if tools.tagger is not None:
        _check_tagger(tools)
    if not corpus.store.create(DESCRIBED_IN, tools.encode()) and Tools.of(corpus) != tools:
        raise ScorerError(
            f"{corpus.url}/{OFFSCREEN.folder} was measured with other tools, see {DESCRIBED_IN}; delete the folder "
            "while nothing is running, and measure all clips again"
        )


def _prompts(encoder: PictureEncoder) -> dict[str, list[list[float]]]:
    if not isinstance(encoder, ClipEncoder):
        return {}
    return {
        group: np.round(encoder.embed_texts(sentences).astype(np.float64), DECIMALS).tolist()
        for group, sentences in PROMPTS.items()
    }


def _separator_file(run: str | Path, fingerprint: dict[str, object]) -> Path:
    """Return the weights file of a system that can be asked by the corpus's own vectors.

    Raises:
        ScorerError: When it cannot.
        CheckpointError: When it cannot be read.
    """
    loaded = load_checkpoint(run)
    maker = make_query_encoder(loaded.recipe, encoder=loaded.encoder, labels=loaded.labels, trained=True)
    if loaded.recipe.query.kind != "corpus" or "image" not in maker.modalities or loaded.encoder is None:
        raise ScorerError(f"{run} is a {loaded.recipe.system}, which cannot be asked by vectors of pictures")
    if loaded.encoder["weights_sha256"] != fingerprint["weights_sha256"]:
        raise ScorerError(f"{run} was trained on vectors of another encoder than the corpus's")
    return read_separator(run)[2].absolute()


def _tagger_hash(tagger: str | Path) -> str:
    if not Path(tagger).is_file():
        raise ScorerError(f"--tagger: there is no file {tagger}")
    return file_hash(tagger)


def _check_tagger(tools: Tools) -> None:
    assert tools.tagger is not None, "only called with a tagger"
    try:
        MusicTagger(tools.tagger, tools.music_classes).share(np.zeros(32_000, np.int16))
    except ValueError as error:
        raise ScorerError(f"--tagger: {error}") from error


def music_classes(path: str | Path) -> Sequence[int]:
    """Return the numbers of the classes that are music: those whose name begins with `Music`, as in AudioSet.

    Args:
        path: One class a line; of a CSV with a header, as YAMNet's, the last column is the name.

    Raises:
        ScorerError: When the file cannot be read, or names no such class.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            names = [row[-1].strip() for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScorerError(f"--tagger-classes: {path} cannot be read: {error}") from error
    names = names[1:] if names and names[0].lower() in ("display_name", "name", "class", "label") else names
    found = [number for number, name in enumerate(names) if name.lower().startswith("music")]
    if not found:
        raise ScorerError(f"--tagger-classes: none of the {len(names)} classes of {path} begins with Music")
    return found


def _report(corpus: Corpus) -> OffscreenReport:
    tables = [read_table(corpus.store, table_name(OFFSCREEN.folder, shard))[0] for shard in range(corpus.shards)]
    table = pa.concat_tables(tables)

    def count(name: str) -> int | None:
        column = table[name]
        return None if column.null_count == len(column) else int(pc.sum(column).as_py() or 0)

    residual = table["residual_db"]
    known = residual.null_count < len(residual)
    return OffscreenReport(
        corpus=corpus.url,
        clips=table.num_rows,
        speech=int(pc.sum(pc.greater_equal(table["speech_share"], LEAST_HEARD)).as_py() or 0),
        voice_over=count("voice_over"),
        music_over_picture=count("music_over_picture"),
        much_left=int(pc.sum(pc.greater(residual, MUCH_LEFT_DB)).as_py() or 0) if known else None,
    )
