"""Training data as CLIPSep's published code prepares it: spectra made in the loader, CLIP run in every step.

Its dataset (`MixDataset`) reads a window of WAV and three JPEG pictures of each source, scales the pictures for CLIP,
and makes the STFT of every source on the loader's processor; the mixture's spectrum is their sum. The step then runs
the frozen CLIP over the pictures of all sources. Here the same is rebuilt from that description, and spared what was
only slow about it: the window alone is read and not the whole file, and the STFT is PyTorch's and not librosa's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from vidaudio.separation import FrontEnd, FrontEndConfig, Separator
from vidaudio.separation.example import MAGNITUDE_FLOOR, MixtureExample
from vidaudio.separation.losses import binary_targets, pixel_weights, weighted_mask_loss

CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
PICTURE_SIZE = 224


@dataclass(frozen=True)
class Place:
    """One source's window: of which clip, from which sample, which pictures, how loud."""

    clip: str
    first_sample: int
    pictures: tuple[int, ...]
    gain: float


class OnTheFly(Dataset):
    """Mixtures of a folder with `CLIP.wav` and `CLIP/000001.jpg` ...; what is drawn is drawn by item number.

    Args:
        folder: See above; every clip has `seconds` of sound and as many pictures.
        clips: Names.
        seconds: Of each clip.
        front_end: Sizes of window and spectrum.
        sources: A mixture.
        items: How many mixtures the set has.
        pictures: Leave them out if not wanted: CLIP has been run before.
    """

    def __init__(
        self, folder: Path, clips: list[str], seconds: int, front_end: FrontEndConfig, *, sources: int, items: int,
        pictures: bool = True,
    ) -> None:  # fmt: skip
        self.folder, self.clips, self.seconds = folder, clips, seconds
        self.config, self.sources, self.items, self.with_pictures = front_end, sources, items, pictures
        self._front_end = FrontEnd(front_end)

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((0, item))
        return self.mixture([self._draw(rng) for _ in range(self.sources)])

    def mixture(self, places: list[Place]) -> dict[str, Tensor]:
        """One item: `magnitudes` float32 `[N + 1, bins, frames]`, the mixture's last; `pictures` `[N, 3, 3, H, W]`."""
        sounds = torch.stack([self._sound(place) for place in places]) / len(places)
        spectra = self._front_end.stft(sounds)
        found = {"magnitudes": torch.cat([spectra, spectra.sum(0, keepdim=True)]).abs()}
        if self.with_pictures:
            found["pictures"] = torch.stack([self._pictures(place) for place in places])
        return found

    def _draw(self, rng: np.random.Generator) -> Place:
        centre = int(rng.integers(3, self.seconds - 3))
        first = round((centre + 0.5) * self.config.sample_rate) - self.config.window_samples // 2
        clip = self.clips[int(rng.integers(len(self.clips)))]
        return Place(clip, first, (centre - 1, centre, centre + 1), float(rng.uniform(0.5, 1.5)))

    def _sound(self, place: Place) -> Tensor:
        with soundfile.SoundFile(self.folder / f"{place.clip}.wav") as file:
            file.seek(place.first_sample)
            samples = file.read(self.config.window_samples, dtype="float32")
        return torch.from_numpy(samples * np.float32(place.gain)).clamp(-1, 1)

    def _pictures(self, place: Place) -> Tensor:
        return torch.stack([self._picture(place.clip, number) for number in place.pictures])

    def _picture(self, clip: str, number: int) -> Tensor:
        with Image.open(self.folder / clip / f"{number + 1:06d}.jpg") as image:
            pixels = torch.from_numpy(np.asarray(image.convert("RGB")).transpose(2, 0, 1).copy())
        return (pixels.float() / 255 - CLIP_MEAN) / CLIP_STD


@torch.no_grad()
def queries_of(pictures: Tensor, clip: nn.Module) -> Tensor:
    """The mean of CLIP's raw vectors of each source's pictures: `[B, N, 3, 3, H, W]` -> float32 `[B, N, D]`."""
    mixtures, sources, number = pictures.shape[:3]
    vectors = clip(pictures.flatten(0, 2).to(next(clip.parameters()).dtype))
    return vectors.float().reshape(mixtures, sources, number, -1).mean(2)


def loss_of(model: Separator, magnitudes: Tensor, queries: Tensor) -> Tensor:
    """The loss of a CLIPSep model, as `QuerySeparator.loss` has it, from spectra that are there already.

    Args:
        model: Without noise heads.
        magnitudes: Of the sources and, last, of the mixture, `[B, N + 1, bins, frames]`.
        queries: `[B, N, D]`.
    """
    options = model.config.loss
    with torch.no_grad():
        warped = model.front_end.to_log(magnitudes)
        sources, mixture = warped[:, :-1], warped[:, -1] + MAGNITUDE_FLOOR
        example = MixtureExample(
            log_magnitude=mixture.log()[:, None],
            targets=binary_targets(sources, mixture),
            weights=pixel_weights(mixture, options.pixel_weight),
        )
    return weighted_mask_loss(model(example.log_magnitude, queries), example.targets, example.weights, options.sources)


def write_clips(folder: Path, tars: Path, clips: int, pictures: int) -> list[str]:
    """The WAV files of a packed corpus of `benchmarks.loader`, and pictures beside them; the clips' names."""
    from vidaudio.shards.tar import list_members

    rng = np.random.default_rng(0)
    inside = list_members(tars)
    names = [f"clip{number:05d}" for number in range(clips)]
    with tars.open("rb") as file:
        for name in names:
            member = inside[f"{name}.wav"]
            file.seek(member.offset)
            (folder / f"{name}.wav").write_bytes(file.read(member.length))
            (folder / name).mkdir()
            for number in range(pictures):
                made_up_picture(rng).save(folder / name / f"{number + 1:06d}.jpg", quality=90)
    return names


def made_up_picture(rng: np.random.Generator) -> Image.Image:
    """Coarse noise made large: as JPEG as many bytes as a photograph takes, 10 to 20 kB."""
    coarse = Image.fromarray(rng.integers(0, 256, (28, 28, 3), dtype=np.uint8))
    return coarse.resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.BICUBIC)
