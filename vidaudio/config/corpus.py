"""The blocks of a corpus recipe: the settings of a build, and which of them decide a corpus's bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from vidaudio.config.cluster import ClusterBlock, ListenAddress, SchedulerAddress
from vidaudio.config.encoders import named_encoder
from vidaudio.config.recipes import RecipeModel, check, load_values, override
from vidaudio.errors import RecipeError, UsageError
from vidaudio.paths import check_shared, local_list

# Settings that older versions do not have, with the value that corresponds to what those versions did.
LEFT_OUT = {"extract.channel": "mix"}


class SiteRateBlock(RecipeModel):
    """Rates of one site where they differ from the others, see vidaudio.media.fetch.rate_limit.SiteRate."""

    requests_per_hour: float | None = Field(None, gt=0)
    minimum_interval_seconds: float | None = Field(None, ge=0)
    jitter_seconds: float | None = Field(None, ge=0)
    first_pause_seconds: float | None = Field(None, gt=0)
    longest_pause_seconds: float | None = Field(None, gt=0)


class RateBlock(RecipeModel):
    """Upper limits of the requests to every site, for all processes that share `folder` together."""

    requests_per_hour: float | None = Field(None, gt=0, description="spread evenly; no limit by default")
    minimum_interval_seconds: float = Field(0.0, ge=0, description="between two requests")
    jitter_seconds: float = Field(0.0, ge=0, description="up to this much is added to every interval")
    first_pause_seconds: float = Field(10.0, gt=0, description="of the site after a 429 or 503; doubled each time")
    longest_pause_seconds: float = Field(3600.0, gt=0, description="whatever Retry-After says")
    sites: dict[str, SiteRateBlock] = Field(default_factory=dict, description="by yt-dlp's name or host")
    folder: str | None = Field(None, description="where budgets are kept; one of this user's and machine by default")


class FetchedMedia(RecipeModel):
    """Which bytes are fetched: the download settings that belong to a corpus."""

    min_short_side: int = Field(224, ge=16, description="smallest format whose short side covers this, pixels")
    copy_local: bool = Field(False, description="copy local files into the corpus instead of referring to them")
    keep_whole: bool = Field(False, description="never cut; keep the whole video")


class FetchPolicy(RecipeModel):
    """How sources are reached: the download settings that belong to one run.

    `ytdlp` is passed to yt-dlp unchanged (cookies, proxy ...).
    """

    keep: Literal["all", "until_extracted", "none"] = Field(
        "all", description="raw media in clips/: for good, until a shard is extracted, or never in the corpus at all"
    )
    tries: int = Field(3, ge=1, le=10, description="for failures that may pass")
    retry_wait_seconds: float = Field(5.0, ge=0, description="before what failed is tried again; doubled each time")
    stop_after_failures: int = Field(25, ge=0, description="sources in a row that fail alike end the run; 0: never")
    stop_after_equal_answers: int = Field(
        25, ge=0, description="sources of a site in a row that it refuses for good alike end the run; 0: never"
    )
    deadline_seconds: float = Field(1800.0, gt=0, description="for one source; waiting for the budget not counted")
    max_source_gib: float = Field(4.0, gt=0, le=7, description="all bytes of one source; a larger one is too_large")
    memory_gib: float = Field(2.0, ge=0.5, description="of one fetching process; a source that wants more is failed")
    allow_private_addresses: bool = Field(False, description="fetch from this machine and its network, too")
    allow_file_urls: bool = Field(False, description="take a list's file: URLs for files of this machine")
    rate: RateBlock = RateBlock()
    ytdlp: dict[str, Any] = Field(default_factory=dict)
    extractors: tuple[str, ...] = Field((), description="further yt-dlp extractors, as module:Class")


class DownloadBlock(FetchedMedia, FetchPolicy):
    """All download settings."""


class ExtractedMedia(RecipeModel):
    """What is decoded: the extract settings that belong to a corpus."""

    frame_size: int = Field(224, ge=16, le=2048)
    frames_per_second: float = Field(1.0, gt=0, le=60)
    sample_rate: int = Field(16_000, ge=4_000, le=192_000)
    min_seconds: float = Field(2.0, ge=0)
    decode: Literal["exact", "fast", "whole"] = Field(
        "exact", description="fast: referenced pictures only, at their own times; whole: all, and motion from them"
    )
    jpeg_quality: int = Field(92, ge=1, le=95)
    channel: Literal["mix", "left", "right", "loudest"] | NonNegativeInt = Field(
        "mix", description="of a sound with several channels: all mixed, one side, the loudest, or a number from 0"
    )


class ExtractLimits(RecipeModel):
    """Limits of one decoder: the extract settings that belong to one run."""

    deadline_seconds: float = Field(120.0, gt=0)
    memory_gib: float = Field(4.0, ge=0.5, description="of one decoder; a clip that wants more is failed (crash)")


class ExtractBlock(ExtractedMedia, ExtractLimits):
    """All extract settings, see vidaudio.media.decode.extractor.ExtractOptions."""


class EncoderBlock(RecipeModel):
    """Settings of the encoder, see vidaudio.encoders.spec.EncoderSpec."""

    architecture: str = "ViT-B-32"
    pretrained: str | None = "openai"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_size: int = Field(64, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, values: Any) -> Any:
        """Accept an encoder's name alone, too: `encoder: demo`, `encoder: ViT-B-32/openai`."""
        return named_encoder(values) if isinstance(values, str) else values


class EmbedBlock(RecipeModel):
    """All embed settings."""

    encoder: EncoderBlock = EncoderBlock()


def _window_kind(value: Any) -> Any:
    """Reject a length in seconds with an explanation; pydantic rejects other wrong values."""
    if isinstance(value, int | float) or (isinstance(value, str) and value.strip()[:1].isdigit()):
        raise ValueError(
            "wants whole, middle or drawn (a packed window always has 4.096 s and 3 pictures: windows_per_clip says "
            "how many are drawn of each clip; for longer windows, pack clips whole and set the length in training)"
        )
    return value


def _all_different(names: tuple[str, ...]) -> tuple[str, ...]:
    """Reject a name that comes twice."""
    if len(set(names)) != len(names):
        raise ValueError("wants different names")
    return names


# Settings of packs that earlier versions do not know.
ADDED_TO_PACKS = frozenset({"vectors", "scorer", "keep_top", "keep_per_label", "dedup", "weight", "fix_offset"})


class DedupBlock(RecipeModel):
    """Least cosines of two clips that are near-duplicates of each other."""

    picture: float = Field(0.97, gt=0, le=1, description="of their mean picture vectors")
    sound: float = Field(0.9, gt=0, le=1, description="of their sound vectors, where the corpus has scores")


def _switch(value: Any) -> Any:
    """Accept `dedup: true` for the default cosines, and `dedup: false` for none."""
    return ({} if value else None) if isinstance(value, bool) else value


class PackBlock(RecipeModel):
    """Settings of training shards. One corpus may be packed many times under different names."""

    name: str = Field("default", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    audio: Literal["flac", "pcm16"] = Field("flac", description="flac saves disk, pcm16 saves the loader's time")
    frames: bool = Field(False, description="put the pictures in, beside their embeddings")
    window: Annotated[Literal["whole", "middle", "drawn"], BeforeValidator(_window_kind)] = Field(
        "whole", description="whole clips, or exactly 3 pictures and 4.096 s: around the middle, or around drawn ones"
    )
    windows_per_clip: PositiveInt | None = Field(None, description="how many, with window: drawn")
    where: str | None = Field(None, description="selection over the clips' columns, e.g. 'not silent and motion > 1'")
    scorer: str | None = Field(None, description="whose scores the selection reads; the corpus's only one by default")
    keep_top: float | None = Field(
        None, gt=0, le=1, description="of the selected clips, the share whose sound and picture correspond best"
    )
    keep_per_label: float | None = Field(
        None, gt=0, le=1, description="of every label's selected clips, the share that is kept in any case"
    )
    dedup: Annotated[DedupBlock | None, BeforeValidator(_switch)] = Field(
        None, description="keep one clip of near-duplicates, in pictures and, with scores, in sound; true: the defaults"
    )
    weight: str | None = Field(
        None, description="a clips' column between 0 and 1, such as p_corresponds, by which training draws the samples"
    )
    fix_offset: float | None = Field(
        None, gt=0, le=1, description="move the sound of clips whose offset is at least this sure by that offset"
    )
    vectors: Annotated[tuple[str, ...], AfterValidator(_all_different), Field(min_length=1)] | None = Field(
        None, description="encoders whose vectors go in, by their folders in embeddings/; the corpus's own by default"
    )
    clips_per_shard: int = Field(512, ge=1)
    split_fractions: dict[str, float] = Field(
        default_factory=lambda: {"train": 0.9, "val": 0.05, "test": 0.05},
        description="for clips whose list names no split: shares drawn by a hash of source and seed",
    )
    max_segment_seconds: float = Field(16.0, gt=5, description="longer sound is cut into overlapping segments")
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _read_old_window(cls, values: Any) -> Any:
        """Convert the older form `window: 10` to ten drawn windows; `windows_per_clip` alone also means `drawn`."""
        if not isinstance(values, Mapping):
            return values
        window, number = values.get("window"), values.get("windows_per_clip")
        old = int(window) if isinstance(window, str) and window.isascii() and window.isdigit() else window
        if isinstance(old, int) and not isinstance(old, bool) and old > 0:
            if number is not None and number != old:
                raise ValueError(f"window: {old} means windows_per_clip: {old}, and {number} stands there, too")
            return {**values, "window": "drawn", "windows_per_clip": old}
        if number is not None and window is None:
            return {**values, "window": "drawn"}
        return values

    @model_validator(mode="after")
    def _check_windows(self) -> Self:
        if self.window == "drawn" and self.windows_per_clip is None:
            raise ValueError("window: drawn needs windows_per_clip, the number of windows that are drawn of each clip")
        if self.window != "drawn" and self.windows_per_clip is not None:
            raise ValueError(f"windows_per_clip goes with window: drawn; leave it out with window: {self.window}")
        return self

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave later settings out at their defaults, so that the files and hashes of older versions stay the same."""
        values = handler(self)
        return {key: value for key, value in values.items() if key not in ADDED_TO_PACKS or value is not None}

    @property
    def window_rule(self) -> str | int:
        """`whole`, `middle`, or the number of drawn windows."""
        return self.window if self.windows_per_clip is None else self.windows_per_clip

    def identity(self) -> dict[str, Any]:
        """Return the settings as plans hash them: equal packs have equal hashes, also where `window` was a number."""
        values = self.model_dump(mode="json", exclude={"windows_per_clip"})
        return values | {"window": self.window_rule}


class DaskBlock(RecipeModel):
    """Where the work runs. Nothing here changes a byte of the corpus."""

    scheduler: SchedulerAddress | None = Field(None, description="of a running cluster; it is taken before `cluster`")
    cluster: ClusterBlock | None = Field(None, description="jobs of a batch system, submitted and cancelled by a build")
    workers: int | None = Field(None, ge=1, description="processes of the local cluster; one a core by default")
    downloads_per_worker: int = Field(4, ge=1)
    shards_in_flight: int | None = Field(None, ge=1, description="per worker 2 by default")
    dashboard: ListenAddress = Field("127.0.0.1:0", description="where it listens; loopback unless asked")

    @property
    def spans_machines(self) -> bool:
        """Whether workers may run on other machines than the driver."""
        return bool(self.scheduler) or (self.cluster is not None and self.cluster.kind != "local")


class CorpusSettings(RecipeModel):
    """The settings that decide committed bytes. A corpus stores them and refuses to continue under others."""

    shard_clips: int = Field(256, ge=1)
    download: FetchedMedia = FetchedMedia()
    extract: ExtractedMedia = ExtractedMedia()
    embed: EmbedBlock = EmbedBlock()

    def identity(self) -> dict[str, Any]:
        """Return the settings as JSON values; their hash is part of every plan hash.

        A setting that was added later is omitted at its default, so that the plan hashes of older corpora stay the
        same.
        """
        values = self.model_dump(mode="json")
        for name, default in LEFT_OUT.items():
            block, _, key = name.partition(".")
            if values[block][key] == default:
                del values[block][key]
        return values


class RunSettings(RecipeModel):
    """The settings of one run: how sites are reached, at which rate, with which limits, on which workers.

    They are never read from a corpus, and a corpus object cannot hold them. So code that opens a corpus again (for a
    retry, or after growth) cannot replace the settings that the user has just given with older ones.

    Attributes:
        id: Id of the run, the same in all its tasks; empty where a stage is run without a driver.
    """

    id: str = ""
    download: FetchPolicy = FetchPolicy()
    extract: ExtractLimits = ExtractLimits()
    dask: DaskBlock = DaskBlock()


class CorpusRecipe(RecipeModel):
    """A corpus recipe: the manifest, the settings, and the corpus's folder or URL."""

    name: str = "corpus"
    manifest: str | None = None
    corpus: str | None = None
    shard_clips: int = Field(256, ge=1, description="clips a shard; a source is never split over two")
    download: DownloadBlock = DownloadBlock()
    extract: ExtractBlock = ExtractBlock()
    embed: EmbedBlock = EmbedBlock()
    pack: PackBlock = PackBlock()
    dask: DaskBlock = DaskBlock()

    def corpus_settings(self) -> CorpusSettings:
        """Return the part of the recipe that decides committed bytes."""
        return CorpusSettings(
            shard_clips=self.shard_clips,
            download=_part(self.download, FetchedMedia),
            extract=_part(self.extract, ExtractedMedia),
            embed=self.embed,
        )

    def run_settings(self) -> RunSettings:
        """Return the part of the recipe that belongs to one run."""
        return RunSettings(
            download=_part(self.download, FetchPolicy), extract=_part(self.extract, ExtractLimits), dask=self.dask
        )


Part = TypeVar("Part", bound=RecipeModel)


def _part(block: RecipeModel, of: type[Part]) -> Part:
    """Return the settings of `block` that its base class `of` declares."""
    return of(**{name: getattr(block, name) for name in of.model_fields})


def load_corpus_recipe(name: str, settings: Sequence[str] = ()) -> CorpusRecipe:
    """Read a recipe of `pipelines/` by name or path, with `key=value` overrides.

    Raises:
        RecipeError: When a value is wrong; the message says whether the recipe or an override contains it.
    """
    values, where = load_values(name, "pipelines"), f"recipe {Path(name).name}"
    try:
        return check(CorpusRecipe, override(values, settings), where)
    except RecipeError as error:
        if settings:
            # If the recipe alone is wrong, too, its error comes first.
            check(CorpusRecipe, values, where)
            raise RecipeError(str(error).replace(where, "--set", 1)) from None
        raise


def with_scheduler(block: DaskBlock, address: str) -> DaskBlock:
    """Return the settings with the scheduler that `--scheduler` names.

    Raises:
        RecipeError: When the address is not a scheduler's.
    """
    try:
        address = TypeAdapter(SchedulerAddress).validate_python(address)
    except ValidationError as error:
        wants = error.errors()[0]["ctx"]["error"]
        raise RecipeError(f"--scheduler {wants}, not {address!r}") from None
    return block.model_copy(update={"scheduler": address})


def required_paths(recipe: CorpusRecipe, manifest: str | None, corpus: str | None) -> tuple[str, str]:
    """Return folder or URL of the corpus and path of the manifest: the arguments, else the recipe's.

    Raises:
        UsageError: When one of them is not given, or only this process could see the corpus.
        ManifestError: When the manifest is a URL.
    """
    where, path = corpus or recipe.corpus, manifest or recipe.manifest
    if not where:
        raise UsageError("where should the corpus be? Name a folder with --corpus, or `corpus:` in the recipe")
    if not path:
        raise UsageError("which list? Name a manifest with --manifest, or `manifest:` in the recipe")
    check_shared(where)
    return where, str(local_list(path))


def stable_hash(values: Any) -> str:
    """Return SHA-256 of JSON-able values, independent of key order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
