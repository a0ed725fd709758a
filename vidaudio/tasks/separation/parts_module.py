"""Training on mixtures whose parts are mixtures themselves, of which only the labels are known (BiModal, MixIT).

Mahmud et al., Weakly supervised audio separation via bi-modal semantic similarity, ICLR 2024; Wisdom et al.,
Unsupervised sound separation using mixture invariant training, NeurIPS 2020.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidaudio.encoders.joint import JointEncoder
from vidaudio.separation import (
    PartExample,
    Separator,
    assignment_reconstruction_losses,
    consistency_losses,
    contrastive_losses,
    jitter,
    make_parts,
    mix_sources,
    pixel_weights,
    reconstruction_losses,
)
from vidaudio.stream.loader import MixtureStream
from vidaudio.tasks.queries.blocks import Modality
from vidaudio.tasks.queries.encoders import QueryEncoder
from vidaudio.tasks.queries.mixture_prompts import Prompts
from vidaudio.tasks.separation.module import TRAIN, VALIDATION, SeparationModule
from vidaudio.tasks.separation.prompt_table import PromptQueries, PromptTable
from vidaudio.tasks.separation.recipe import SeparationRecipe
from vidaudio.training.distributed import all_gather_object, all_gather_rows, is_distributed
from vidaudio.training.step_numbers import means_over_ranks

_log = logging.getLogger(__name__)

# Similarities are measured on so many validation mixtures of a rank at most: every sound goes through the encoders.
MOST_MEASURED = 128
# Difference of the two encoders' `_reached` shares above which a warning is logged.
WIDE_GAP = 0.25
# What is added to the seeds of jitter, so that they differ from those of other random draws.
JITTER_SEED = 7
# Names of the encoder that is trained with and of the held-out one, in numbers.
TRAINED, HELD_OUT = "similarity", "similarity_held_out"


@dataclass(frozen=True, slots=True)
class MixtureClips:
    """Clips of a training mixture, on the processor.

    Attributes:
        corpora: Number of each clip's corpus.
        rows: Row of each clip.
        is_single: Whether its parts are single sounds.
    """

    corpora: list[int]
    rows: list[int]
    is_single: bool


def read_clips(batch: Mapping[str, Any]) -> list[MixtureClips]:
    """Return the clips of each mixture of a batch, in one transfer: the processor waits once."""
    clips = batch["rows"].shape[1]
    columns = [batch["corpora"], batch["rows"]]
    if "known" in batch:
        columns.append(batch["known"][:, None].to(batch["rows"].dtype))
    table = torch.cat(columns, dim=1).tolist()
    return [MixtureClips(row[:clips], row[clips : 2 * clips], any(row[2 * clips :])) for row in table]


class PartsModule(SeparationModule):
    """Module that trains a system on mixtures of parts, whose sources are known by their labels alone.

    Args:
        model: A freshly built model, or one with loaded weights.
        recipe: Recipe of the run, with an objective of kind `parts` or `mixit`.
        train_stream: Training batches: N times K sounds a mixture, those of a part in succession.
        validation_stream: Validation batches; None for no validation.
        maker: Query encoder of the system.
        prompts: Prompts of the splits `train` and `validation`; none for a system without queries.
        joint: Encoder of sound and text, whose contrast is learned from; None for none.
        held_out_joint: Another one, which is measured but not trained with; None for none.
    """

    def __init__(
        self,
        model: Separator,
        recipe: SeparationRecipe,
        train_stream: MixtureStream,
        validation_stream: MixtureStream | None,
        maker: QueryEncoder,
        prompts: Mapping[str, PromptTable],
        joint: JointEncoder | None = None,
        held_out_joint: JointEncoder | None = None,
    ) -> None:
        super().__init__(model, recipe, train_stream, validation_stream, maker)
        self._tables = dict(prompts)
        self._joint = joint
        encoders = {TRAINED: joint, HELD_OUT: held_out_joint}
        self._encoders = {name: encoder for name, encoder in encoders.items() if encoder is not None}
        self._asked: PromptQueries | None = None
        self._numbers_of_texts: dict[str, int] = {}

    def _ask(self, prompts: Sequence[str]) -> Tensor:
        if self._asked is None:
            self._asked = PromptQueries(self.maker, self.device)
            # A validation may ask first, in inference mode; training goes on with the same weights.
            with torch.inference_mode(mode=False):
                for encoder in self._encoders.values():
                    encoder.to(self.device)
        return self._asked(prompts)

    def prompts(
        self, mixtures: Sequence[MixtureClips], split: str, clips: int, count: int
    ) -> list[list[Prompts] | None]:
        """Return the prompts of the parts of each mixture; None for a mixture of which a clip has no label.

        Args:
            mixtures: Clips of the mixtures of a batch.
            split: `train` or `validation`.
            clips: Clips of a part.
            count: Prompts for sources of a part.
        """
        table = self._tables[split]
        found: list[list[Prompts] | None] = []
        for one in mixtures:
            used = 1 if one.is_single else clips
            starts = range(0, len(one.rows), clips)
            parts = [table.prompts(one.corpora[s : s + used], one.rows[s : s + used], count) for s in starts]
            found.append(None if None in parts else [part for part in parts if part is not None])
        return found

    def forward(self, batch: Mapping[str, Any], *, step: int, optimiser: str = "") -> Tensor:
        """Return the loss of one micro-batch, weighted by its share of the batch."""
        block, objective = self.recipe.data, self.recipe.objective
        clips = 1 if block.natural else block.mixed
        audio = batch["audio"].unflatten(1, (block.sources, clips))
        gains = batch["gains"].unflatten(1, (block.sources, clips))
        singles = batch.get("known")
        is_single: list[bool] | None = None
        mixtures = counted = len(audio)
        prompts: list[list[Prompts]] = []
        usable = torch.arange(mixtures)
        if objective.kind == "parts":
            read = read_clips(batch)
            found = self.prompts(read, TRAIN, clips, block.mixed)
            usable = torch.tensor([row for row, parts in enumerate(found) if parts is not None], dtype=torch.long)
            counted = len(usable)
            # If no mixture is left, the first is computed with weight 0: other ranks wait for this one's all-reduce.
            usable = usable if counted else torch.zeros(1, dtype=torch.long)
            prompts = [found[row] or self._any_prompts() for row in usable.tolist()]
            is_single = None if singles is None else [read[row].is_single for row in usable.tolist()]
        if len(usable) < mixtures:
            rows = usable.to(audio.device)
            audio, gains, singles = audio[rows], gains[rows], None if singles is None else singles[rows]
        scale = objective.target_scale
        example = make_parts(self.model.front_end, audio, gains, is_single=singles, target_scale=scale)
        if objective.kind == "mixit":
            estimates = self.model.soft_masks(example.spectrum) * example.magnitude[:, None]
            weights = pixel_weights(example.magnitude, self.recipe.loss.pixel_weight)
            over = self.recipe.loss.sources
            losses = {"loss": assignment_reconstruction_losses(estimates, example.parts, weights, over)}
        else:
            positions = [self.train_stream.positions(int(batch["step"]))[row] for row in usable.tolist()]
            losses = self._losses(example, prompts, is_single, positions, is_counted=counted > 0)
        if (step + 1) % self.recipe.log_every_steps == 0:
            counts = {"replaced_samples": batch["replaced"]}
            if any(table.missing for table in self._tables.values()):
                counts["mixtures_without_label"] = mixtures - counted
            totals = {name: value.detach().double().sum() * (counted > 0) for name, value in losses.items()}
            self._numbers.add(totals, examples=counted, counts=counts)
        # As in CLIPSep's module: a mixture that is left out counts as one with loss 0.
        return losses["loss"].mean() * (batch["share"] * self.train_stream.world_size * counted / mixtures)

    def _any_prompts(self) -> list[Prompts]:
        count = self.recipe.data.mixed
        part = Prompts(mixture="a sound", sources=("a sound",) * count, weights=(1 / count,) * count)
        return [part] * self.recipe.data.sources

    def _losses(
        self,
        example: PartExample,
        prompts: list[list[Prompts]],
        is_single: Sequence[bool] | None,
        positions: Sequence[int],
        *,
        is_counted: bool,
    ) -> dict[str, Tensor]:
        """Return the losses of each mixture, `[B]`: 0.5 L_CNT + 5 (L_CRL + L_URL) by default.

        If the mixtures do not count, other ranks do not contrast their sounds with them.
        """
        objective = self.recipe.objective
        batch, parts = len(prompts), self.recipe.data.sources
        count = len(prompts[0][0].sources)
        needs_sources = bool(objective.consistency or objective.contrast)
        texts = [part.mixture for mixture in prompts for part in mixture]
        of_sources = [text for mixture in prompts for part in mixture for text in part.sources] if needs_sources else []
        queries = self._ask([*texts, *of_sources])
        asked = queries[: len(texts)].unflatten(0, (batch, parts))
        if needs_sources:
            asked = torch.cat([asked, queries[len(texts) :].unflatten(0, (batch, parts * count))], dim=1)
        masks = self.model.soft_masks(example.spectrum, asked)
        answers = masks * example.magnitude[:, None]
        pixel_weight, over = self.recipe.loss.pixel_weight, self.recipe.loss.sources
        weights = pixel_weights(example.magnitude, pixel_weight)
        found = {"reconstruction": reconstruction_losses(answers[:, :parts], example.parts, weights, over)}
        total = objective.reconstruction * found["reconstruction"]
        if needs_sources:
            by_part = answers[:, parts:].unflatten(1, (parts, count))
            shares = torch.tensor(
                [[part.weights for part in mixture] for mixture in prompts], device=answers.device, dtype=torch.float32
            )
            consistency = consistency_losses(by_part, example.parts, shares, pixel_weight=pixel_weight, over=over)
            if is_single is not None:
                # The prompt of a single sound is that of its part, whose reconstruction is learned from already.
                consistency = torch.where(torch.tensor(is_single, device=answers.device), 0.0, consistency)
            found["consistency"] = consistency
            total = total + objective.consistency * consistency
        if objective.contrast:
            sounds = self._sounds(example, masks[:, parts:], is_single)
            own = torch.full((batch, count), is_counted)
            if is_single is not None:
                own[torch.tensor(is_single), 1:] = False
            found |= self._contrast(sounds.unflatten(1, (parts, count)), prompts, own, positions)
            total = total + objective.contrast * found["contrast"]
        return {"loss": total, **found}

    def _sounds(self, example: PartExample, masks: Tensor, is_single: Sequence[bool] | None) -> Tensor:
        """Return the waveforms of masks, as loud as the recipe has the joint encoder hear them, `[B, P, samples]`."""
        sounds = self.model.front_end.istft(masks * example.spectrum[:, None])
        if self.recipe.objective.sound_level == "mixture":
            return sounds
        count = self.recipe.data.sources * (1 if self.recipe.data.natural else self.recipe.data.mixed)
        counts = [self.recipe.data.sources if single else count for single in is_single or [False] * len(sounds)]
        # Mixing divided every source by the number of sources.
        return sounds * torch.tensor(counts, device=sounds.device)[:, None, None]

    def _contrast(
        self, sounds: Tensor, prompts: list[list[Prompts]], own: Tensor, positions: Sequence[int]
    ) -> dict[str, Tensor]:
        """Return L_CNT and the mean cosine to the own prompts, `[B]` each.

        Args:
            sounds: Separated sounds, `[B, N, K, samples]`.
            prompts: Prompts of the parts of each mixture.
            own: Which of a part's K sounds are contrasted, bool `[B, K]` on the processor; mixtures without any have
                loss 0.
            positions: Positions of the mixtures in the run.
        """
        assert self._joint is not None, "a recipe without a joint encoder has no contrast, see `check_objective`"
        objective, rate = self.recipe.objective, self.recipe.model.front_end.sample_rate
        batch, parts, count = sounds.shape[:3]
        changed = self._jittered(sounds.flatten(0, 2), positions, parts * count)
        vectors = self._joint.embed_sound(changed, rate).unflatten(0, (batch, parts, count))
        # Rows are chosen by numbers that the processor knows: a mask on the device would make it wait.
        chosen = own.flatten().nonzero()[:, 0].tolist()
        rows = torch.tensor(chosen, dtype=torch.long, device=sounds.device)
        losses, cosines = [], []
        for part in range(parts):
            words = [text for mixture in prompts for text in mixture[part].sources]
            words = [words[row] for row in chosen]
            texts = self._joint.embed_texts(words).to(sounds.device)
            mine = vectors[:, part].flatten(0, 1)[rows]
            others, first = None, 0
            if objective.gather_negatives and is_distributed():
                every, first = all_gather_rows(torch.cat([mine, texts], dim=1))
                others = (every[:, : mine.shape[1]], every[:, mine.shape[1] :])
            losses.append(
                contrastive_losses(
                    mine,
                    texts,
                    self._joint.temperature,
                    others=others,
                    first=first,
                    names=self._text_numbers(words, sounds.device) if objective.mask_same_labels else None,
                    both_directions=objective.both_directions,
                    cap=objective.cap,
                )
            )
            cosines.append((mine * texts).sum(dim=1))
        owners = rows // count
        counts = own.sum(dim=1).clamp_min(1).to(sounds.device)

        def by_mixture(values: list[Tensor]) -> list[Tensor]:
            zero = torch.zeros(batch, device=sounds.device)
            return [zero.index_add(0, owners, value.float()) / counts for value in values]

        return {
            "contrast": torch.stack(by_mixture(losses)).sum(dim=0),
            "similarity": torch.stack(by_mixture(cosines)).mean(dim=0).detach(),
        }

    def _text_numbers(self, words: list[str], device: torch.device) -> Tensor:
        """Return a number for each prompt, of all ranks if negatives are gathered: equal where the prompts are."""
        if self.recipe.objective.gather_negatives and is_distributed():
            words = [word for rank in all_gather_object(words) for word in rank]
        return torch.tensor(
            [self._numbers_of_texts.setdefault(word, len(self._numbers_of_texts)) for word in words],
            dtype=torch.long,
            device=device,
        )

    def _jittered(self, sounds: Tensor, positions: Sequence[int], of_mixture: int) -> Tensor:
        """Return sounds changed at random, as a function of the seed and the mixtures' positions in the run."""
        block = self.recipe.objective.jitter
        if not (block.gain_db or block.crop_share or block.band_noise_db is not None):
            return sounds
        rate, changed = self.recipe.model.front_end.sample_rate, []
        for position, own in zip(positions, sounds.split(of_mixture), strict=True):
            generator = torch.Generator().manual_seed(
                (self.recipe.seed * 1_000_003 + position * 31 + JITTER_SEED) % 2**63
            )
            changed.append(jitter(own, generator, sample_rate=rate, **block.model_dump()))
        return torch.cat(changed)

    def queries(self, batch: Mapping[str, Any], modality: Modality, split: str) -> tuple[Tensor | None, Tensor | None]:
        """Return queries of a validation's clips: of natural mixtures those of the whole, otherwise of the labels."""
        if not self._tables:
            return None, None
        found = self.prompts(read_clips(batch), split, 1, 1)
        clips = self.recipe.data.sources
        none = ["a sound"] * clips
        words = [none if parts is None else [part.mixture for part in parts] for parts in found]
        queries = self._ask([word for mixture in words for word in mixture]).unflatten(0, (len(words), clips))
        usable = torch.tensor([parts is not None for parts in found], device=self.device)
        return queries, usable if self._tables[split].missing else None

    def begin_validation(self) -> None:
        """Reset the sums."""
        super().begin_validation()
        self._similarities: dict[str, float] = {}
        self._measured_mixtures = 0

    def validate(self, batch: Mapping[str, Any]) -> None:
        """Add the losses, gains and similarities of one batch to the sums of the validation."""
        super().validate(batch)
        if self._encoders and self._measured_mixtures < MOST_MEASURED:
            self._measure_similarity(batch)

    def _measure_similarity(self, batch: Mapping[str, Any]) -> None:
        """Add the cosines of separated sounds with their prompts, beside those of the mixture and the true sounds."""
        found = self.prompts(read_clips(batch), VALIDATION, 1, 1)
        rows = [row for row, parts in enumerate(found) if parts is not None]
        if not rows:
            return
        words = [[part.mixture for part in found[row] or ()] for row in rows]
        sources, mixture = mix_sources(batch["audio"][rows])
        model, clips = self.eval_model, sources.shape[1]
        queries = self._ask([word for each in words for word in each]).unflatten(0, (len(rows), clips))
        separated = model.separate_all(mixture, queries)
        length = separated.shape[-1]
        sounds = {
            "separated": separated,
            "true": sources[..., :length],
            "mixed": mixture[:, None, :length].expand_as(separated),
        }
        rate = self.recipe.model.front_end.sample_rate
        texts = [word for each in words for word in each]
        for name, encoder in self._encoders.items():
            wanted = encoder.embed_texts(texts).to(self.device)
            for kind, sound in sounds.items():
                cosines = (encoder.embed_sound(sound.flatten(0, 1) * clips, rate) * wanted).sum(dim=1)
                key = f"{name}_{kind}"
                self._similarities[key] = self._similarities.get(key, 0.0) + float(cosines.sum()) / clips
        self._measured_mixtures += len(rows)

    def end_validation(self) -> dict[str, float]:
        """Return the numbers of the validation, over all ranks.

        Warns where the held-out encoder finds separated sounds less like their prompts than the trained one does.
        """
        numbers = super().end_validation()
        means = means_over_ranks(self._similarities, self._measured_mixtures)
        for name in self._encoders:
            if f"{name}_true" not in means:
                continue
            low, high = means[f"{name}_mixed"], means[f"{name}_true"]
            numbers[f"validation/{name}"] = means[f"{name}_separated"]
            numbers[f"validation/{name}_true"] = high
            if high > low:
                # 0: as like the prompt as the mixture; 1: as the true sounds.
                numbers[f"validation/{name}_reached"] = (means[f"{name}_separated"] - low) / (high - low)
        reached = [numbers.get(f"validation/{name}_reached") for name in (TRAINED, HELD_OUT)]
        if reached[0] is not None and reached[1] is not None:
            gap = reached[0] - reached[1]
            numbers["validation/similarity_gap"] = gap
            if gap > WIDE_GAP:
                _log.warning(
                    "the separated sounds are like their prompts by the encoder that they are trained with, and less "
                    "so by the held-out one: %.0f %% of the way from the mixture to the true sounds, against %.0f %%; "
                    "lower objective.contrast, or set objective.jitter or objective.cap",
                    100 * reached[0],
                    100 * reached[1],
                )
        return numbers
