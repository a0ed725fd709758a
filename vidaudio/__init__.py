"""From a list of videos to training data for models of sight and sound, and the models trained on it.

    import vidaudio

    clips = vidaudio.read_folder("videos")
    vidaudio.write_manifest(clips.clips, "videos.parquet")
    recipe = vidaudio.load_corpus_recipe("folder")
    print(vidaudio.build(recipe, "videos.parquet", "corpora/videos"))
    loader = vidaudio.EpochLoader(vidaudio.MixtureStream("corpora/videos/training/default"))
    vidaudio.train(vidaudio.load_train_recipe("clipsep"), "corpora/videos/training/default", "runs/clipsep")
    vidaudio.separate("mixture.wav", "dog.wav", "runs/clipsep", query="dog barking")

Every command of the command line is a function here, under its own name. Names are imported when they are first used,
so that `import vidaudio` takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Where each name is defined; a pair names the definition where it is called something else.
_HOMES: dict[str, str | tuple[str, str]] = {
    # Manifests.
    "Clip": "vidaudio.manifest",
    "Listing": "vidaudio.manifest",
    "TableOptions": "vidaudio.manifest",
    "describe_manifest": "vidaudio.manifest",
    "fill_template": "vidaudio.manifest",
    "join_media": "vidaudio.manifest",
    "read_audiocaps": "vidaudio.manifest",
    "read_audioset": "vidaudio.manifest",
    "read_clipsep": "vidaudio.manifest",
    "read_esc": "vidaudio.manifest",
    "read_folder": "vidaudio.manifest",
    "read_manifest": "vidaudio.manifest",
    "read_music": "vidaudio.manifest",
    "read_table": "vidaudio.manifest",
    "read_vggsound": "vidaudio.manifest",
    "read_webdataset": "vidaudio.manifest",
    "write_manifest": "vidaudio.manifest",
    # Corpora.
    "Corpus": "vidaudio.corpus.corpus",
    "CorpusRecipe": "vidaudio.config.corpus",
    "CorpusStatus": "vidaudio.maintenance.status",
    "PackBlock": "vidaudio.config.corpus",
    "OffscreenReport": "vidaudio.tasks.correspondence.offscreen",
    "ScoreReport": "vidaudio.pipeline.score",
    "ScorerReport": "vidaudio.tasks.correspondence.fit",
    "VerifyReport": "vidaudio.maintenance.verify",
    "build": "vidaudio.pipeline.build",
    "dry_run": "vidaudio.pipeline.dry_run",
    "export": "vidaudio.maintenance.export",
    "fit_scorer": "vidaudio.tasks.correspondence.fit",
    "import_scores": "vidaudio.pipeline.imported_scores",
    "keep_list": "vidaudio.maintenance.keep_list",
    "load_corpus_recipe": "vidaudio.config.corpus",
    "offscreen": "vidaudio.tasks.correspondence.offscreen",
    "open_corpus": "vidaudio.corpus.corpus",
    "pack": "vidaudio.pipeline.build",
    "pack_sounds": "vidaudio.packs.audio_only",
    "remove": "vidaudio.maintenance.remove",
    "score": "vidaudio.pipeline.score",
    "status": ("vidaudio.maintenance.status", "corpus_status"),
    "verify": ("vidaudio.maintenance.verify", "verify_corpus"),
    "write_pairs": "vidaudio.pipeline.imported_scores",
    # Loaders of packed corpora.
    "PartlyKnownStream": "vidaudio.stream.partly_known",
    "EpochLoader": "vidaudio.stream.epochs",
    "MixtureStream": "vidaudio.stream.loader",
    "PackedCorpus": "vidaudio.stream.packed_corpus",
    "StreamConfig": "vidaudio.stream.config",
    "TrainingIndex": "vidaudio.stream.index",
    "WindowShape": "vidaudio.stream.windows",
    "open_index": "vidaudio.stream.index",
    "shard_urls": "vidaudio.stream.webdataset_pipeline",
    "webdataset": "vidaudio.stream.webdataset_pipeline",
    # Encoders.
    "EncoderSpec": "vidaudio.encoders.spec",
    "load_encoder": "vidaudio.encoders.load",
    "open_embedding": "vidaudio.encoders.embedding_models",
    # Training.
    "AverageResult": "vidaudio.training.power_average",
    "BandExit": "vidaudio.training.loss_band",
    "TrainResult": "vidaudio.training.train",
    "average": "vidaudio.training.power_average",
    "load_train_recipe": "vidaudio.tasks.registry",
    "train": "vidaudio.tasks.registry",
    # Separation.
    "Checkpoint": "vidaudio.tasks.separation.checkpoint",
    "EvaluateRequest": "vidaudio.tasks.separation.evaluate",
    "EvaluationReport": "vidaudio.tasks.separation.evaluation.report",
    "SeparationRecipe": "vidaudio.tasks.separation.recipe",
    "SeparationResult": "vidaudio.tasks.separation.separate",
    "Separator": "vidaudio.separation",
    "SeparatorConfig": "vidaudio.separation",
    "SoundQuery": "vidaudio.tasks.separation.separate",
    "TestMaterial": "vidaudio.tasks.separation.evaluate",
    "build_separator": "vidaudio.separation",
    "evaluate": "vidaudio.tasks.separation.evaluate",
    "load_checkpoint": "vidaudio.tasks.separation.checkpoint",
    "separate": "vidaudio.tasks.separation.separate",
    "separate_long": "vidaudio.separation",
    # Generation.
    "EditOptions": "vidaudio.tasks.generation.source",
    "ExportedGenerator": "vidaudio.tasks.generation.diffusers_export",
    "GenerateOptions": "vidaudio.tasks.generation.generate",
    "GenerationQuery": "vidaudio.tasks.generation.generate",
    "GenerationRecipe": "vidaudio.tasks.generation.recipe",
    "GenerationReport": "vidaudio.tasks.generation.evaluation.report",
    "GenerationRequest": "vidaudio.tasks.generation.evaluate",
    "GenerationResult": "vidaudio.tasks.generation.generate",
    "GeneratorCheckpoint": "vidaudio.tasks.generation.checkpoint",
    "GeneratorSeparationOptions": "vidaudio.tasks.generation.separate",
    "VocoderCheckpoint": "vidaudio.tasks.vocoder.checkpoint",
    "VocoderRecipe": "vidaudio.tasks.vocoder.recipe",
    "evaluate_generators": "vidaudio.tasks.generation.evaluate",
    "export_generator": "vidaudio.tasks.generation.diffusers_export",
    "generate": "vidaudio.tasks.generation.generate",
    "load_generator": "vidaudio.tasks.generation.checkpoint",
    "load_vocoder": "vidaudio.tasks.vocoder.checkpoint",
    "separate_with_generator": "vidaudio.tasks.generation.separate",
    # Search.
    "SearchHit": "vidaudio.clip_search.search",
    "SearchQuery": "vidaudio.clip_search.query",
    "SearchReport": "vidaudio.clip_search.search",
    "search": "vidaudio.clip_search.search",
    # Reports.
    "CorpusReport": "vidaudio.report.corpus",
    "GapReport": "vidaudio.report.modality_gap",
    "PageText": "vidaudio.report.listening",
    "gap": "vidaudio.report.modality_gap",
    "make_listening_test": ("vidaudio.report.listening", "make_page"),
    "make_report": ("vidaudio.report.corpus", "report"),
    "run_demo": "vidaudio.demo.run",
    "tally_listening_test": ("vidaudio.report.listening", "tally"),
    # Errors.
    "VidaudioError": "vidaudio.errors",
}
__all__ = sorted(["__version__", *_HOMES])

if TYPE_CHECKING:
    from vidaudio.clip_search.query import SearchQuery
    from vidaudio.clip_search.search import SearchHit, SearchReport, search
    from vidaudio.config.corpus import CorpusRecipe, PackBlock, load_corpus_recipe
    from vidaudio.corpus.corpus import Corpus, open_corpus
    from vidaudio.demo.run import run_demo
    from vidaudio.encoders.embedding_models import open_embedding
    from vidaudio.encoders.load import load_encoder
    from vidaudio.encoders.spec import EncoderSpec
    from vidaudio.errors import VidaudioError
    from vidaudio.maintenance.export import export
    from vidaudio.maintenance.keep_list import keep_list
    from vidaudio.maintenance.remove import remove
    from vidaudio.maintenance.status import CorpusStatus
    from vidaudio.maintenance.status import corpus_status as status
    from vidaudio.maintenance.verify import VerifyReport
    from vidaudio.maintenance.verify import verify_corpus as verify
    from vidaudio.manifest import (
        Clip,
        Listing,
        TableOptions,
        describe_manifest,
        fill_template,
        join_media,
        read_audiocaps,
        read_audioset,
        read_clipsep,
        read_esc,
        read_folder,
        read_manifest,
        read_music,
        read_table,
        read_vggsound,
        read_webdataset,
        write_manifest,
    )
    from vidaudio.packs.audio_only import pack_sounds
    from vidaudio.pipeline.build import build, pack
    from vidaudio.pipeline.dry_run import dry_run
    from vidaudio.pipeline.imported_scores import import_scores, write_pairs
    from vidaudio.pipeline.score import ScoreReport, score
    from vidaudio.report.corpus import CorpusReport
    from vidaudio.report.corpus import report as make_report
    from vidaudio.report.listening import PageText
    from vidaudio.report.listening import make_page as make_listening_test
    from vidaudio.report.listening import tally as tally_listening_test
    from vidaudio.report.modality_gap import GapReport, gap
    from vidaudio.separation import Separator, SeparatorConfig, build_separator, separate_long
    from vidaudio.stream.config import StreamConfig
    from vidaudio.stream.epochs import EpochLoader
    from vidaudio.stream.index import TrainingIndex, open_index
    from vidaudio.stream.loader import MixtureStream
    from vidaudio.stream.packed_corpus import PackedCorpus
    from vidaudio.stream.partly_known import PartlyKnownStream
    from vidaudio.stream.webdataset_pipeline import shard_urls, webdataset
    from vidaudio.stream.windows import WindowShape
    from vidaudio.tasks.correspondence.fit import ScorerReport, fit_scorer
    from vidaudio.tasks.correspondence.offscreen import OffscreenReport, offscreen
    from vidaudio.tasks.generation.checkpoint import GeneratorCheckpoint, load_generator
    from vidaudio.tasks.generation.diffusers_export import ExportedGenerator, export_generator
    from vidaudio.tasks.generation.evaluate import GenerationRequest, evaluate_generators
    from vidaudio.tasks.generation.evaluation.report import GenerationReport
    from vidaudio.tasks.generation.generate import GenerateOptions, GenerationQuery, GenerationResult, generate
    from vidaudio.tasks.generation.recipe import GenerationRecipe
    from vidaudio.tasks.generation.separate import GeneratorSeparationOptions, separate_with_generator
    from vidaudio.tasks.generation.source import EditOptions
    from vidaudio.tasks.registry import load_train_recipe, train
    from vidaudio.tasks.separation.checkpoint import Checkpoint, load_checkpoint
    from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial, evaluate
    from vidaudio.tasks.separation.evaluation.report import EvaluationReport
    from vidaudio.tasks.separation.recipe import SeparationRecipe
    from vidaudio.tasks.separation.separate import SeparationResult, SoundQuery, separate
    from vidaudio.tasks.vocoder.checkpoint import VocoderCheckpoint, load_vocoder
    from vidaudio.tasks.vocoder.recipe import VocoderRecipe
    from vidaudio.training.loss_band import BandExit
    from vidaudio.training.power_average import AverageResult, average
    from vidaudio.training.train import TrainResult


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    module, attribute = (home, name) if isinstance(home, str) else home
    found = getattr(importlib.import_module(module), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
