"""Training of a separation system: loss, optimiser, validation. All heavy work is on the device."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from vidaudio.separation import Separator, candidate_masks, mix_sources, summarise
from vidaudio.separation.fast_sdr import image_sdr, scale_invariant_sdr
from vidaudio.stream.loader import MixtureStream
from vidaudio.tasks.queries.blocks import Modality
from vidaudio.tasks.queries.encoders import QueryEncoder
from vidaudio.tasks.queries.query_gap import perturbed
from vidaudio.tasks.queries.text_queries import TextTable
from vidaudio.tasks.separation.augment import augment_pictures
from vidaudio.tasks.separation.recipe import SeparationRecipe
from vidaudio.tasks.separation.systems import modality_at
from vidaudio.tasks.separation.wrong_queries import WrongQueries
from vidaudio.training.base import ScheduledOptimiser, TrainingModule
from vidaudio.training.distributed import all_gather_object, mean_over_ranks
from vidaudio.training.optimiser import scheduled_optimiser
from vidaudio.training.step_numbers import StepNumbers

_log = logging.getLogger(__name__)

TRAIN, VALIDATION = "train", "validation"


class SeparationModule(TrainingModule):
    """Module that trains a system on a `MixtureStream`.

    Args:
        model: A freshly built model, or one with loaded weights.
        recipe: Recipe of the run.
        train_stream: Training batches.
        validation_stream: Validation batches; None for no validation.
        maker: Query encoder of the system.
        text: Text queries of the splits `train` and `validation`, if the recipe uses text queries.
    """

    model: Separator

    def __init__(
        self,
        model: Separator,
        recipe: SeparationRecipe,
        train_stream: MixtureStream,
        validation_stream: MixtureStream | None,
        maker: QueryEncoder,
        text: dict[str, TextTable] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.train_stream = train_stream
        self.validation_stream = validation_stream
        self.maker = maker
        self.text = text or {}
        self._numbers = StepNumbers()
        self._wrong: WrongQueries | None = None

    def queries(self, batch: Mapping[str, Any], modality: Modality, split: str) -> tuple[Tensor | None, Tensor | None]:
        """Return queries of a batch's sources, and which mixtures have a query for every source.

        Returns:
            `[B, N, ...]`, None for a system without queries; bool `[B]`, None if all mixtures have their queries.
        """
        if not self.maker.modalities:
            return None, None
        if modality == "image":
            return self.maker.encode_batch(batch).to(self.device), None
        queries, known = self._text_queries(batch, split)
        # Reading values from the device would make it wait, so this is done only if some queries may be missing.
        return queries, known.all(dim=1) if self.text[split].missing else None

    def _text_queries(self, batch: Mapping[str, Any], split: str) -> tuple[Tensor, Tensor]:
        """Return text queries of a batch's sources `[B, N, ...]`, and which sources have one, bool `[B, N]`."""
        table = self.text[split]
        if table.of_row.device != batch["rows"].device:
            table = self.text[split] = table.to(batch["rows"].device)
        return table.look_up(batch["corpora"], batch["rows"])

    @property
    def eval_model(self) -> Separator:
        """Return the model that is validated and saved as best."""
        return cast(Separator, super().eval_model)

    def forward(self, batch: Mapping[str, Any], *, step: int, optimiser: str = "") -> Tensor:
        """Return the loss of one part of a batch, weighted by the part's share of the batch."""
        query, modality = self.recipe.query, modality_at(self.recipe.query.train, step)
        queries, usable = self.queries(batch, modality, TRAIN)
        if queries is not None and modality == "image":
            queries = self._perturbed(queries, batch)
        if query.kind == "pictures" and query.pictures.trained and query.pictures.augment:
            assert queries is not None, "images are queries"
            queries = augment_pictures(
                queries,
                seed=self.recipe.seed,
                positions=self.train_stream.positions(int(batch["step"])),
                batch_size=self.recipe.data.batch_size,
            )
        audio, gains = batch["audio"], batch["gains"]
        mixtures = counted = len(audio)
        if usable is not None:
            counted = int(usable.sum())
            # If no mixture is left, the whole part is computed with weight 0: other ranks wait for this one's
            # all-reduce.
            if queries is not None and 0 < counted < mixtures:
                audio, gains, queries = audio[usable], gains[usable], queries[usable]
        mean = functools.partial(mean_over_ranks, count=counted)
        parts = self.model.loss(audio, queries, gains, step=step, batch_mean=mean)
        if (step + 1) % self.recipe.log_every_steps == 0:
            counts = {"replaced_samples": batch["replaced"]}
            if any(table.missing for table in self.text.values()):
                counts["mixtures_without_label"] = mixtures - counted
            totals = {name: value.double() * counted for name, value in parts.items()}
            self._numbers.add(totals, examples=counted, counts=counts)
        # The mean over ranks weighs all ranks alike, but their parts differ in size. A mixture that is left out counts
        # as one with loss 0, so that the weight of the others does not depend on their part.
        return parts["loss"] * (batch["share"] * self.train_stream.world_size * counted / mixtures)

    def _perturbed(self, queries: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Return image queries, changed at random by the recipe's method against the modality gap."""
        method, texts = self.maker.gap.train, None
        if method is None:
            return queries
        if method.name == "mixup":
            found, known = self._text_queries(batch, TRAIN)
            # A clip without a label keeps the query of its pictures.
            texts = torch.where(known[..., None], found.to(queries), queries)
        positions = self.train_stream.positions(int(batch["step"]))
        return perturbed(method, queries, texts, seed=self.recipe.seed, positions=positions)

    def take_step_numbers(self) -> dict[str, float]:
        """Return and reset the numbers of the last step, over all ranks; every rank must call it."""
        return self._numbers.take(self.device)

    def begin_validation(self) -> None:
        """Reset the sums; at the first validation, choose the wrong queries."""
        self._parts: dict[str, Tensor] = {}
        self._mixtures = 0
        self._gains: list[list[float]] = []
        if self._wrong is None:
            assert self.validation_stream is not None
            self._wrong = WrongQueries(
                self.validation_stream,
                lambda batch: self.queries(batch, self.recipe.query.validation, VALIDATION),
                self.device,
            )

    def validate(self, batch: Mapping[str, Any]) -> None:
        """Add the losses and gains of one batch to the sums of the validation."""
        queries, usable = self.queries(batch, self.recipe.query.validation, VALIDATION)
        audio = batch["audio"]
        if queries is not None and usable is not None:
            audio, queries = audio[usable], queries[usable]
        if not len(audio):
            return
        # step=None: losses of different steps are compared, so terms that begin later are included from the start.
        for name, value in self.eval_model.loss(audio, queries, step=None).items():
            self._parts[name] = self._parts.get(name, 0.0) + value.double() * len(audio)
        self._mixtures += len(audio)
        assert self._wrong is not None, "see `begin_validation`"
        self._gains += self._improvements(audio, queries, self._wrong.draw(batch, usable)).tolist()

    def end_validation(self) -> dict[str, float]:
        """Return exact means over the mixtures of all ranks, even if the ranks' parts differ in size."""
        mine = (
            {name: float(value) for name, value in self._parts.items()},
            self._mixtures,
            self._gains,
        )
        ranks = all_gather_object(mine)
        mixtures = sum(count for _, count, _ in ranks)
        if not mixtures:
            none = "no mixture of the validation split has a label for every source: nothing is validated"
            _log.warning(none)
            return {"validation/loss": math.nan}
        names = next(sums for sums, count, _ in ranks if count)
        means = {name: torch.tensor(sum(sums.get(name, 0.0) for sums, _, _ in ranks) / mixtures) for name in names}
        means["loss"] = self.eval_model.total(means)
        numbers = {f"validation/{name}": float(value) for name, value in means.items()}
        gains = [row for *_, rows in ranks for row in rows]
        for place, name in enumerate(("si_sdr_improvement", "sdr_improvement", "over_wrong_query")):
            found = summarise(row[place] for row in gains if math.isfinite(row[place]))
            if found.count:
                numbers[f"validation/{name}"] = found.mean
                numbers[f"validation/{name}_median"] = found.median
            if found.count > 1 and name == "over_wrong_query":
                numbers[f"validation/{name}_error"] = found.standard_error
        return numbers

    def _improvements(self, audio: Tensor, queries: Tensor | None, wrong: tuple[Tensor, Tensor] | None) -> Tensor:
        """Return gains of each mixture's first source, dB, `[B, 3]`: SI-SDR, SDR, and SDR over a wrong query's SDR.

        A system without queries is scored on the better of mask and complement. NaN where there is no wrong query, or
        silence.
        """
        sources, mixture = mix_sources(audio)
        model = self.eval_model
        spectrum = model.front_end.stft(mixture)
        if queries is None:
            masks = candidate_masks(model.masks(spectrum), "complement")
        else:
            asked = queries[:, :1] if wrong is None else torch.stack([queries[:, 0], wrong[0].to(queries.dtype)], dim=1)
            masks = model.masks(spectrum, asked)
        target = sources[:, 0, : model.front_end.config.output_samples]
        before = mixture[:, : target.shape[-1]]
        sounds = [model.front_end.istft(spectrum * mask).clamp(-1, 1) for mask in masks.unbind(dim=1)]
        sdr = torch.stack([image_sdr(target, sound) for sound in sounds], dim=1)
        si_sdr = torch.stack([scale_invariant_sdr(target, sound) for sound in sounds], dim=1)
        over_wrong = torch.full_like(sdr[:, 0], math.nan)
        if queries is not None and wrong is not None:
            over_wrong = torch.where(wrong[1], sdr[:, 0] - sdr[:, 1], math.nan)
        if queries is not None:
            sdr, si_sdr = sdr[:, :1], si_sdr[:, :1]
        gains = (
            si_sdr.amax(dim=1) - scale_invariant_sdr(target, before),
            sdr.amax(dim=1) - image_sdr(target, before),
            over_wrong,
        )
        return torch.stack(gains, dim=1).float()

    def optimisers(self) -> Sequence[ScheduledOptimiser]:
        """Return the recipe's optimiser, which makes a step at every step of the run."""
        return [scheduled_optimiser(self.recipe, self._parameter_groups())]

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Return all parameters; those of a pretrained part have a lower learning rate if the recipe sets one."""
        block = self.recipe.optimiser
        pretrained = [p for name, p in self.model.named_parameters() if name.startswith("query.body.")]
        if not pretrained or block.pretrained_factor == 1:
            return [{"params": list(self.model.parameters())}]
        fresh = [p for name, p in self.model.named_parameters() if not name.startswith("query.body.")]
        return [{"params": fresh}, {"params": pretrained, "lr": block.learning_rate * block.pretrained_factor}]

    def compile_parts(self, backend: str) -> None:
        """Compile the U-Net, which takes most of a step."""
        self.model.unet.compile(backend=backend)
