"""Separation of a sound file or a video of any length, sample rate and channel count, with text or image queries."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vidaudio.errors import QueryError
from vidaudio.media.audio_files import Sound, check_output, read_sound, write_result
from vidaudio.media.soundtrack import video_pictures
from vidaudio.separation import Request, resample, separate_all_long, separate_long
from vidaudio.tasks.queries.encoders import QueryEncoder, open_images
from vidaudio.tasks.queries.gap import trained_gap
from vidaudio.tasks.separation.checkpoint import Checkpoint, load_checkpoint
from vidaudio.tasks.separation.query_factory import attach_ranker, make_query_encoder
from vidaudio.text import number_of
from vidaudio.training.checkpoint import best_device


@dataclass(frozen=True, slots=True)
class SoundQuery:
    """Description of the wanted sound: words, images or a video; each of them may be combined with unwanted words.

    Attributes:
        words: Text queries; several texts request all of their sounds together.
        without: Texts of unwanted sounds; alone, they request everything else.
        images: Image files that together are the query, instead of `words`.
        video: Video whose pictures are the query, instead of `words`.
        video_span: `middle`, as many pictures as in training, from the video's middle; or `whole`, all, one per second.
    """

    words: Sequence[str] = ()
    without: Sequence[str] = ()
    images: Sequence[str | Path] = ()
    video: str | Path | None = None
    video_span: Literal["middle", "whole"] = "middle"

    @property
    def has_wanted(self) -> bool:
        """Return whether a wanted sound is described, not only unwanted ones."""
        return bool(self.words or self.images or self.video is not None)

    def check(self) -> None:
        """Refuse a query in several ways at once, and a span without a video.

        Raises:
            QueryError: When the query is ambiguous.
        """
        if sum([bool(self.words), bool(self.images), self.video is not None]) > 1:
            raise QueryError("ask in one way: in words (--query), by pictures (--image), or by a video (--query-video)")
        if self.video_span == "whole" and self.video is None:
            raise QueryError("--whole-video says how much of a --query-video to look at, and none is named")


@dataclass(frozen=True, slots=True)
class SeparationResult:
    """Result of a separation: the files that were written.

    Attributes:
        paths: Paths of the files: one, or one per source for a system without queries.
        seconds: Length of each file, that of the mixture.
        channels: Number of channels of each file, that of the mixture.
        sample_rate: Sample rate of each file, that of the mixture, Hz.
        rms_dbfs: RMS level of each file, dBFS; -inf for silence.
        peak_dbfs: Peak level of each file, dBFS; -inf for silence.
    """

    paths: tuple[Path, ...]
    seconds: float
    channels: int
    sample_rate: int
    rms_dbfs: tuple[float, ...] = ()
    peak_dbfs: tuple[float, ...] = ()

    @property
    def path(self) -> Path:
        """Return the first path."""
        return self.paths[0]

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict; the levels of silence are None."""
        files: list[dict[str, Any]] = [{"path": str(path)} for path in self.paths]
        for file, rms, peak in zip(files, self.rms_dbfs, self.peak_dbfs, strict=False):
            file |= {"rms_dbfs": _rounded(rms), "peak_dbfs": _rounded(peak)}
        facts = {"seconds": round(self.seconds, 4), "channels": self.channels, "sample_rate": self.sample_rate}
        return {"files": files, **facts}

    def __str__(self) -> str:
        form = f"{self.seconds:.2f} s, {number_of(self.channels, 'channel')}, {self.sample_rate} Hz"
        lines = [f"{path}: {form}" for path in self.paths]
        for number, (rms, peak) in enumerate(zip(self.rms_dbfs, self.peak_dbfs, strict=True)):
            level = "silence" if math.isinf(rms) else f"{rms:.1f} dBFS RMS, peak {peak:.1f} dBFS"
            lines[number] += f", {level}"
        return "\n".join(lines)


def separate(
    mixture: str | Path,
    out: str | Path,
    checkpoint: str | Path,
    *,
    query: str | SoundQuery | None = None,
    threshold: float | None = None,
    encoder_weights: str | None = None,
    gap: str | None = None,
    progress: bool = False,
) -> SeparationResult:
    """Extract the sound that a query describes from a sound file or a video.

    The model works at its own sample rate (16 kHz by default), so the result contains nothing above half of it (8 kHz).
    The result is written at the mixture's rate, with its channels and length.

    Args:
        mixture: A file that libsndfile reads (wav, flac, ogg, mp3 ...), or a video.
        out: Output path; the suffix decides the format. If the mixture is a video, a video's suffix writes its picture
            with the separated sound. A system without queries writes one file per source, `out-1.wav` ...
        checkpoint: A run's folder or its weights file.
        query: Wanted sound: a text, or a `SoundQuery` for several texts, images or a video; None for a system without
            queries.
        threshold: Threshold of a binary mask; None for a soft mask, as in the paper.
        encoder_weights: Local weights of the encoder, used instead of the recorded place.
        gap: Method against the modality gap that texts go through: its name or file, the folder or `hf-hub:` name of
            a published prior, or `none`; None for the recipe's.
        progress: Whether to show a progress bar.

    Raises:
        MediaError: When a file cannot be read or written.
        QueryError: When the query is missing, ambiguous, or not supported by the system.
        CheckpointError: When the checkpoint cannot be read.
        EncoderError: When the encoder cannot be loaded.
        GapError: When the method is not there, or belongs to another encoder.
    """
    asked = SoundQuery(words=[query]) if isinstance(query, str) else query or SoundQuery()
    asked.check()
    heard = read_sound(mixture)
    # Detects an output name that cannot be written before the work, not after it.
    check_output(out, mixture)
    loaded = load_checkpoint(checkpoint)
    maker = make_query_encoder(
        loaded.recipe, encoder=loaded.encoder, labels=loaded.labels, weights=encoder_weights, trained=True
    )
    maker.gap = trained_gap(loaded, gap)
    attach_ranker(loaded.model, maker)
    request = None
    if maker.modalities:
        request = make_request(asked, maker, loaded.recipe.data.window_frames)
    elif asked.has_wanted or asked.without:
        raise QueryError(
            f"{loaded.recipe.system} cannot be asked for a sound; leave the query out and take all sources"
        )
    paths = [Path(out)]
    if request is None:
        numbers = range(1, loaded.model.config.sources + 1)
        paths = [Path(out).with_stem(f"{Path(out).stem}-{number}") for number in numbers]
    for path in paths:
        check_output(path, mixture)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    with tqdm(desc="separating", unit="window", disable=not progress, dynamic_ncols=True) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        sounds = _separated(loaded, heard, request, threshold, show)
    written = [write_result(path, sound, mixture) for path, sound in zip(paths, sounds, strict=True)]
    return described(paths, written)


def described(paths: Sequence[Path], sounds: Sequence[Sound]) -> SeparationResult:
    """Return the result for written sounds, all of one form."""
    return SeparationResult(
        tuple(paths),
        sounds[0].seconds,
        sounds[0].samples.shape[0],
        sounds[0].sample_rate,
        tuple(_dbfs(np.sqrt(np.mean(np.square(sound.samples, dtype=np.float64)))) for sound in sounds),
        tuple(_dbfs(np.abs(sound.samples).max()) for sound in sounds),
    )


def _dbfs(amplitude: float) -> float:
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf


def _rounded(decibels: float) -> float | None:
    return round(decibels, 2) if math.isfinite(decibels) else None


def make_request(query: SoundQuery, maker: QueryEncoder, window_frames: int) -> Request:
    """Return the queries of the wanted and the unwanted sounds.

    Args:
        query: Description of the sounds.
        maker: Encoder of the queries.
        window_frames: Pictures of a video in training.

    Raises:
        QueryError: When neither a wanted nor an unwanted sound is described.
    """
    if not query.has_wanted and not query.without:
        raise QueryError("say what to separate, in words (--query, --without) or by a picture (--image, --query-video)")
    if query.images:
        wanted = [maker.encode_images(open_images(query.images))]
    elif query.video is not None:
        most = window_frames if query.video_span == "middle" else None
        # Decoded in this process: the decoder for corpora, `media.extract`, has a deadline but refuses videos without
        # sound.
        wanted = [maker.encode_images(video_pictures(query.video, maker.image_size, most=most))]
    else:
        wanted = maker.encode_joint(query.words)
    unwanted = [maker.encode_text(word) for word in query.without]
    like = (wanted or unwanted)[0]
    return Request(_stacked(wanted, like), _stacked(unwanted, like))


def _stacked(queries: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.stack(list(queries)) if queries else like[None][:0]


def _separated(
    loaded: Checkpoint,
    heard: Sound,
    request: Request | None,
    threshold: float | None,
    progress: Callable[[int, int], None],
) -> list[Sound]:
    device = best_device()
    model = loaded.model.to(device)
    rate = loaded.recipe.model.front_end.sample_rate
    mixture = torch.from_numpy(np.asarray(resample(heard.samples, heard.sample_rate, rate), np.float32)).to(device)
    if request is None:
        separated = separate_all_long(model, mixture, threshold=threshold, progress=progress)
    else:
        separated = separate_long(model, mixture, request, threshold=threshold, progress=progress)[None]
    return [like_mixture(each, rate, heard) for each in separated.cpu().numpy()]


def like_mixture(separated: np.ndarray, sample_rate: int, mixture: Sound) -> Sound:
    """Return a separated sound at the mixture's rate, in its length; as loud as it is, beyond full scale, too.

    Args:
        separated: Sound, `[channels, samples]`.
        sample_rate: Its sample rate, Hz.
        mixture: The mixture.
    """
    length = mixture.samples.shape[1]
    back = np.asarray(resample(separated, sample_rate, mixture.sample_rate))[:, :length]
    back = np.pad(back, ((0, 0), (0, length - back.shape[1])))
    return Sound(back, mixture.sample_rate, mixture.subtype)
