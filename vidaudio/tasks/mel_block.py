"""Settings block of a mel, which recipes of generators and of vocoders have in common."""

from __future__ import annotations

from pydantic import Field, model_validator

from vidaudio.config.recipes import RecipeModel
from vidaudio.generation.mel import LOG_MOST, MelConfig

# Far more than any sound needs, but little enough for memory: recipes also come with other people's weights.
MAX_SAMPLE_RATE, MAX_N_FFT, MAX_BANDS, MAX_WINDOW_SECONDS = 384_000, 1 << 16, 1024, 120


class MelBlock(RecipeModel):
    """Mel of a generator or a vocoder, see vidaudio.generation.MelConfig."""

    sample_rate: int = Field(16_000, ge=1, le=MAX_SAMPLE_RATE)
    n_fft: int = Field(2048, ge=2, le=MAX_N_FFT)
    hop: int = Field(512, ge=1, le=MAX_N_FFT)
    bands: int = Field(64, ge=1, le=MAX_BANDS)
    lowest: float = Field(0.0, ge=0)
    highest: float | None = Field(None, gt=0, description="Hz; none: half the sample rate")
    log_most: float = Field(LOG_MOST, description="logarithm of a band that becomes 1")

    @model_validator(mode="after")
    def _sizes_fit(self) -> MelBlock:
        self.config()
        return self

    def config(self) -> MelConfig:
        """Return the sizes."""
        return MelConfig(**self.model_dump())
