"""Evaluate a separation system on seeded test mixtures, with museval, the way CLIPSep does.

One mixture a test clip: the clip is the target, another clip drawn by a seeded generator the interference, both from
their middle windows, at their own levels, each halved. Only the target is scored; the second estimate is the rest of
the mask.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vidaudio.errors import CorpusError
from vidaudio.separation import FixedFilters, Summary, ideal_binary_mask, mix_sources, score_many, summarise
from vidaudio.stream.index import TrainingIndex, open_index
from vidaudio.stream.loader import MixtureStream, StreamConfig
from vidaudio.stream.reader import SampleReader
from vidaudio.stream.windows import Windows, WindowShape
from vidaudio.training.checkpoint import Checkpoint, best_device, load_checkpoint
from vidaudio.training.queries import image_queries, load_query_encoder, text_queries

# What can stand in a report's rows, in this order.
METHODS = ("mixture", "text", "image", "wrong_text", "fixed_filter", "ideal_binary_mask")
FILTER_MIXTURES = 512


@dataclass(frozen=True, slots=True)
class TestPair:
    """Rows of the index: the target, and what it is mixed with."""

    target: int
    interference: int


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Scores of every method over the same mixtures.

    Attributes:
        checkpoint, data, split: What was evaluated on what.
        mixtures: How many test mixtures there are.
        sdr: Method to the SDR of every mixture it could be scored on, dB, by mixture number.
        by_label: Method to label to mean SDR improvement over the mixture, dB.
    """

    checkpoint: str
    data: str
    split: str
    mixtures: int
    sdr: dict[str, dict[int, float]]
    by_label: dict[str, dict[str, float]]

    def summary(self, method: str) -> Summary:
        """Of the method's SDR."""
        return summarise(self.sdr[method].values())

    def improvement(self, method: str) -> Summary:
        """Of the method's SDR less the mixture's own, mixture by mixture."""
        mixture = self.sdr["mixture"]
        return summarise(v - mixture[n] for n, v in self.sdr[method].items() if n in mixture)

    def difference(self, method: str, other: str) -> float:
        """Mean over mixtures of how much better one method is than another, dB."""
        common = self.sdr[method].keys() & self.sdr[other].keys()
        return summarise(self.sdr[method][n] - self.sdr[other][n] for n in sorted(common)).mean

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: summaries and the scores themselves."""
        return {
            "checkpoint": self.checkpoint,
            "data": self.data,
            "split": self.split,
            "mixtures": self.mixtures,
            "sdr": {m: {**asdict(self.summary(m)), "improvement": self.improvement(m).mean} for m in self.sdr},
            "scores": {m: {str(n): round(v, 4) for n, v in scores.items()} for m, scores in self.sdr.items()},
            "improvement_by_label": self.by_label,
        }

    def __str__(self) -> str:
        lines = [
            f"SDR of the target, dB, museval, {self.mixtures} mixtures of split {self.split}",
            f"  {'method':<20}{'mean':>8}{'+- se':>8}{'median':>9}{'gain':>8}{'n':>6}",
        ]
        for method in self.sdr:
            s, gain = self.summary(method), self.improvement(method)
            name = method.replace("_", " ")
            row = f"  {name:<20}{s.mean:>8.2f}{s.standard_error:>8.2f}{s.median:>9.2f}{gain.mean:>8.2f}{s.count:>6}"
            lines.append(row)
        return "\n".join(lines)

    def as_csv(self) -> str:
        """One row a method and mixture."""
        sink = io.StringIO()
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(["method", "mixture", "sdr_db"])
        for method, scores in self.sdr.items():
            writer.writerows([method, number, f"{value:.4f}"] for number, value in scores.items())
        return sink.getvalue()


def evaluate(
    checkpoint: str | Path,
    data: str,
    *,
    split: str = "test",
    methods: Sequence[str] = ("mixture", "text", "image"),
    different_labels: bool = False,
    mixtures: int | None = None,
    processes: int = 1,
    encoder_weights: str | None = None,
    progress: bool = True,
) -> EvaluationReport:
    """Score a system on the test mixtures of a packed corpus.

    Args:
        checkpoint: A run's folder or its weights file.
        data: A packed corpus, `CORPUS/training/NAME`.
        split: Whose clips are targets and interference.
        methods: Some of `METHODS`. `wrong_text` asks for a kind that is not in the mixture; `fixed_filter` is the best
            mask per label that is constant in time, learned on the train split.
        different_labels: Draw interference of another label than the target's; the papers draw from all.
        mixtures: At most so many; all by default.
        processes: For museval.
        encoder_weights: Local weights of the encoder.
        progress: Show a progress bar.

    Raises:
        CorpusError, CheckpointError, EncoderError: With what to do about it.
    """
    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        raise CorpusError(f"there is no method {', '.join(unknown)}; there are {', '.join(METHODS)}")
    methods = [m for m in METHODS if m in methods or m == "mixture"]
    loaded = load_checkpoint(checkpoint)
    index = open_index(data, split)
    if index.encoder["weights_sha256"] != loaded.encoder["weights_sha256"]:
        raise CorpusError(f"{data} holds vectors of another encoder than {loaded.path} was trained with")
    windows = Windows(index, _shape(loaded))
    labels = _first_labels(
        index, needed=bool({"text", "wrong_text", "fixed_filter"} & set(methods)) or different_labels
    )
    pairs = draw_pairs(index, windows, labels if different_labels else None, mixtures)
    estimator = _Estimator(loaded, index, windows, labels, methods, data, encoder_weights)

    bar = tqdm(
        total=len(pairs) * len(methods), desc="evaluating", unit="score", disable=not progress, dynamic_ncols=True
    )
    items = (item for number, pair in enumerate(pairs) for item in estimator.items(number, pair))
    scored = score_many(items, processes, progress=lambda done: bar.update(done - bar.n))
    bar.close()

    sdr: dict[str, dict[int, float]] = {method: {} for method in methods}
    keys = ((number, method) for number in range(len(pairs)) for method in methods)
    for (number, method), score in zip(keys, scored, strict=True):
        if score is not None:
            sdr[method][number] = score["sdr"]
    by_label = _by_label(sdr, [labels[pair.target] for pair in pairs]) if labels else {}
    return EvaluationReport(str(checkpoint), str(data), split, len(pairs), sdr, by_label)


def draw_pairs(
    index: TrainingIndex, windows: Windows, labels: Sequence[str] | None, mixtures: int | None = None
) -> list[TestPair]:
    """One pair a clip: the interference is drawn with Python's generator seeded by the target's number.

    Targets are in order of their keys. Interference is of another source and, where `labels` are given, another label.
    """
    rows = sorted(windows.usable.tolist(), key=index.table["key"].to_pylist().__getitem__)
    sources = index.codes("source")
    pairs = []
    for number, target in enumerate(rows[:mixtures]):
        others = [r for r in rows if sources[r] != sources[target] and (labels is None or labels[r] != labels[target])]
        if others:
            pairs.append(TestPair(target, random.Random(number).choice(others)))
    if not pairs:
        raise CorpusError(
            f"no mixture can be made of the {len(rows)} usable clips ({windows.too_short} are too short): "
            "they need two different sources"
        )
    return pairs


class _Estimator:
    """Makes the estimates of every method for one mixture after another."""

    def __init__(
        self,
        loaded: Checkpoint,
        index: TrainingIndex,
        windows: Windows,
        labels: Sequence[str] | None,
        methods: Sequence[str],
        data: str,
        encoder_weights: str | None,
    ) -> None:
        self.device = best_device()
        self.model = loaded.model.to(self.device)
        self.index, self.windows, self.labels, self.methods = index, windows, labels, methods
        self.reader = SampleReader(index)
        self.text: dict[str, np.ndarray] = {}
        if {"text", "wrong_text"} & set(methods):
            encoder = load_query_encoder(loaded.encoder, encoder_weights)
            self.text = text_queries(encoder, labels, loaded.recipe.query.templates)
        self.filters = fit_filters(loaded, data, self.device) if "fixed_filter" in methods else None
        self.samples = loaded.model.front_end.config.output_samples

    @torch.no_grad()
    def items(self, number: int, pair: TestPair) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """References and estimates `[2, samples]` of every method, in order."""
        rows = (pair.target, pair.interference)
        read = [self.reader.window(row, self.windows.middle(row)) for row in rows]
        audio = torch.from_numpy(np.stack([sound for sound, _ in read]))[None].to(self.device)
        vectors = torch.from_numpy(np.stack([vector for _, vector in read]))[None].to(self.device)
        sources, mixture = mix_sources(audio)
        references = sources[0, :, : self.samples].cpu().numpy()
        for method in self.methods:
            if method == "mixture":
                mixed = mixture[:, : self.samples].cpu().numpy()
                yield references, np.concatenate([mixed, mixed])
                continue
            mask = self._mask(method, number, pair, sources, mixture, image_queries(vectors)[:, 0])
            yield references, self._both(mixture, mask)

    def _mask(
        self, method: str, number: int, pair: TestPair, sources: Tensor, mixture: Tensor, image: Tensor
    ) -> Tensor:
        """The target's mask on linear bins, `[1, bins, frames]`."""
        front_end = self.model.front_end
        if method == "ideal_binary_mask":
            return front_end.to_linear(ideal_binary_mask(front_end, sources)[:, 0].float())
        if method == "fixed_filter":
            rows = self.filters.mask(self.labels[pair.target]).to(self.device)
            return front_end.to_linear(rows.expand(-1, front_end.config.frames)[None])
        if method == "image":
            query = image
        else:
            label = self.labels[pair.target] if method == "text" else self._absent_label(number, pair)
            query = torch.from_numpy(self.text[label])[None].to(self.device)
        return self.model.mask(front_end.stft(mixture), query)

    def _both(self, mixture: Tensor, mask: Tensor) -> np.ndarray:
        """Estimates of target and rest, `[2, samples]`."""
        front_end = self.model.front_end
        spectrum = front_end.stft(mixture)
        estimates = front_end.istft(torch.cat([spectrum * mask, spectrum * (1 - mask)])).clamp(-1, 1)
        return estimates.cpu().numpy()

    def _absent_label(self, number: int, pair: TestPair) -> str:
        present = {self.labels[pair.target], self.labels[pair.interference]}
        absent = sorted(set(self.labels) - present)
        if not absent:
            raise CorpusError("a wrong query needs a kind that is not in the mixture; the split has only two kinds")
        return random.Random(f"wrong {number}").choice(absent)


def fit_filters(loaded: Checkpoint, data: str, device: torch.device, mixtures: int = FILTER_MIXTURES) -> FixedFilters:
    """The mean ideal mask of each label over seeded training mixtures: what an equaliser could do."""
    front_end = loaded.model.front_end.to(device)
    config = StreamConfig(split=loaded.recipe.split, shape=_shape(loaded), batch_size=16, seed=1, gain_range=None)
    stream = MixtureStream(data, config)
    labels = _first_labels(stream.index, needed=True)

    def batches() -> Iterator[tuple[Tensor, list[list[str]]]]:
        reader = SampleReader(stream.index)
        for step in range(max(1, mixtures // config.batch_size)):
            batch = stream.batch(step, reader)
            sources, _ = mix_sources(batch["audio"].to(device))
            yield sources, [[labels[row] for row in rows] for rows in batch["rows"].tolist()]

    return FixedFilters(front_end).fit(batches())


def _shape(loaded: Checkpoint) -> WindowShape:
    block = loaded.recipe.data
    return WindowShape(
        frames=block.window_frames,
        frame_spacing_seconds=block.frame_spacing_seconds,
        samples=loaded.recipe.model.front_end.window_samples,
        max_padding_seconds=block.max_padding_seconds,
    )


def _first_labels(index: TrainingIndex, *, needed: bool) -> list[str]:
    labels = index.table["labels"].to_pylist()
    if all(labels):
        return [row[0] for row in labels]
    if needed:
        raise CorpusError(
            f"{sum(not row for row in labels)} of {len(labels)} clips have no label, and text queries are made of "
            "labels; ask by pictures alone (--methods mixture,image), or pack only clips with labels"
        )
    return []


def _by_label(sdr: dict[str, dict[int, float]], labels: Sequence[str]) -> dict[str, dict[str, float]]:
    mixture = sdr["mixture"]
    table: dict[str, dict[str, float]] = {}
    for method, scores in sdr.items():
        if method == "mixture":
            continue
        for label in sorted(set(labels)):
            gains = [v - mixture[n] for n, v in scores.items() if labels[n] == label and n in mixture]
            if gains:
                table.setdefault(method, {})[label] = round(float(np.mean(gains)), 3)
    return table


def write_report(report: EvaluationReport, folder: str | Path) -> Path:
    """Write `evaluation.json` and `evaluation.csv` into a folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(report.as_dict(), indent=2, sort_keys=True) + "\n")
    (folder / "evaluation.csv").write_text(report.as_csv())
    return folder / "evaluation.json"
