"""Upper bounds for a model: ideal masks, and the best filter per kind of sound that does not change over time.

All masks are on the model's own log-frequency spectrogram, so that they share its limits. The ideal masks know the
sources of the mixture itself. The fixed filters know only the kind of sound that the query asks for: a model that does
not beat them is an equaliser.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Literal, get_args

from torch import Tensor

from vidaudio.separation.example import MAGNITUDE_FLOOR, mixture_magnitude
from vidaudio.separation.frontend import FrontEnd
from vidaudio.separation.losses import binary_targets

FilterKind = Literal["binary", "ratio", "wiener"]


def ideal_binary_mask(front_end: FrontEnd, sources: Tensor) -> Tensor:
    """Return the training target: 1 where a source has more than half of the mixture's magnitude.

    Args:
        front_end: The model's STFT and warp.
        sources: Sources whose sum is the mixture, float [B, N, L].

    Returns:
        float32 [B, N, log_rows, frames].
    """
    spectra = front_end.stft(sources)
    return binary_targets(front_end.to_log(spectra.abs()), mixture_magnitude(front_end, spectra.sum(dim=1)))


def ideal_ratio_mask(front_end: FrontEnd, sources: Tensor) -> Tensor:
    """Return a source's share of the summed magnitudes, |S_n| / sum_m |S_m|; shapes are as in `ideal_binary_mask`."""
    magnitudes = front_end.to_log(front_end.stft(sources).abs())
    return magnitudes / (magnitudes.sum(dim=1, keepdim=True) + MAGNITUDE_FLOOR)


def separate_with_mask(front_end: FrontEnd, mixture: Tensor, mask: Tensor) -> Tensor:
    """Apply a mask as the model applies its own: unwarp, multiply the mixture's spectrum, invert, clip to [-1, 1].

    Args:
        front_end: The model's STFT and warp.
        mixture: Mixtures, float [B, window_samples].
        mask: [B, log_rows, frames], or anything that broadcasts to that shape.

    Returns:
        float32 [B, output_samples].
    """
    spectrum = front_end.stft(mixture)
    return front_end.istft(spectrum * front_end.to_linear(mask)).clamp(-1, 1)


class FixedFilters:
    """The best mask per kind of sound that is constant in time, learned from training mixtures.

    Each log row stores a ratio of two sums over the mixtures and frames of a kind:

    - `binary`: the mean of the ideal binary mask.
    - `ratio`: the mean of the ideal ratio mask.
    - `wiener`: Re sum S X* / sum |X|^2 within [0, 1], which has the least squared error of all fixed filters.

    The first two average over frames in which the mixture is not silent in that row.

    Args:
        front_end: The model's STFT and warp.
        kind: Kind of ratio.
    """

    def __init__(self, front_end: FrontEnd, kind: FilterKind = "binary") -> None:
        if kind not in get_args(FilterKind):
            raise ValueError(f"kind is {kind!r}; expected one of {', '.join(get_args(FilterKind))}.")
        self.front_end = front_end
        self.kind = kind
        self._numerators: dict[Hashable, Tensor] = {}
        self._denominators: dict[Hashable, Tensor] = {}

    @property
    def labels(self) -> set[Hashable]:
        """Return the kinds of sound seen in training mixtures so far."""
        return set(self._numerators)

    def fit(self, batches: Iterable[tuple[Tensor, Sequence[Sequence[Hashable]]]]) -> FixedFilters:
        """Learn from mixtures; a second call continues from the first.

        Args:
            batches: Pairs of sources (float [B, N, L], as `mix_sources` returns them) and their labels (B rows of N).

        Raises:
            ValueError: When there is not one label per source.
        """
        for sources, labels in batches:
            if len(labels) != sources.shape[0] or any(len(row) != sources.shape[1] for row in labels):
                raise ValueError(f"labels must be {sources.shape[0]} rows of {sources.shape[1]}, one label a source.")
            numerators, denominators = self._sums(sources)
            for row, top, bottom in zip(labels, numerators, denominators, strict=True):
                for label, source_top in zip(row, top, strict=True):
                    self._numerators[label] = self._numerators.get(label, 0) + source_top
                    self._denominators[label] = self._denominators.get(label, 0) + bottom
        return self

    def mask(self, label: Hashable) -> Tensor:
        """Return the filter of a kind of sound, float32 [log_rows, 1]; it broadcasts over time.

        Raises:
            KeyError: When no training mixture had a source of that kind.
        """
        if label not in self._numerators:
            raise KeyError(f"no training mixture had a source of the kind {label!r}")
        gains = self._numerators[label] / self._denominators[label].clamp_min(MAGNITUDE_FLOOR)
        return gains.clamp(0, 1).float()[:, None]

    def _sums(self, sources: Tensor) -> tuple[Tensor, Tensor]:
        """Return sums over time, float64: numerators [B, N, log_rows] and denominators [B, log_rows]."""
        spectra = self.front_end.stft(sources)
        mixture = spectra.sum(dim=1)
        if self.kind == "wiener":
            cross = self.front_end.to_log((spectra * mixture.conj()[:, None]).real)
            return cross.double().sum(dim=-1), self.front_end.to_log(mixture.abs().square()).double().sum(dim=-1)
        ideal = ideal_binary_mask if self.kind == "binary" else ideal_ratio_mask
        sounding = (mixture_magnitude(self.front_end, mixture) > 2 * MAGNITUDE_FLOOR).double()
        masks = ideal(self.front_end, sources).double()
        return (masks * sounding[:, None]).sum(dim=-1), sounding.sum(dim=-1)
