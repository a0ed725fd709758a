"""One sample's sound and vectors, read by byte range and decoded: no whole tar is opened and nothing is unpickled."""

from __future__ import annotations

import io
import os

import numpy as np
import soundfile

from vidaudio.errors import CorpusError
from vidaudio.stream.index import TrainingIndex
from vidaudio.stream.windows import Window

WAV_HEADER_BYTES = 44


class SampleReader:
    """Reads windows and whole samples of an index. One a process; files stay open between reads."""

    def __init__(self, index: TrainingIndex) -> None:
        self._index = index
        self._descriptors: dict[int, int] = {}
        self._shard = index.column("shard")
        self._audio_offset = index.column("audio_offset")
        self._audio_length = index.column("audio_length")
        self._vectors_offset = index.column("vectors_offset")
        self._vectors_length = index.column("vectors_length")
        self._samples = index.column("samples")

    def sound(self, row: int, first: int = 0, samples: int | None = None) -> np.ndarray:
        """`samples` values from `first` of the sample's sound, int16, zeros outside it; None: all of it."""
        total = int(self._samples[row])
        samples = total - first if samples is None else samples
        out = np.zeros(samples, np.int16)
        begin, end = max(0, first), min(total, first + samples)
        if end <= begin:
            return out
        place = slice(begin - first, end - first)
        if self._index.audio == "wav":
            # PCM needs no decoder, and only the bytes of the window are read.
            at = int(self._audio_offset[row]) + WAV_HEADER_BYTES + 2 * begin
            out[place] = np.frombuffer(self._read(row, at, 2 * (end - begin)), "<i2")
            return out
        data = self._read(row, int(self._audio_offset[row]), int(self._audio_length[row]))
        try:
            with soundfile.SoundFile(io.BytesIO(data)) as file:
                file.seek(begin)
                out[place] = file.read(end - begin, dtype="int16")
        except (soundfile.LibsndfileError, ValueError) as error:
            raise self._damaged(row, error) from error
        return out

    def vectors(self, row: int) -> np.ndarray:
        """Embeddings of all the sample's pictures, float16 `[pictures, dimensions]`."""
        data = self._read(row, int(self._vectors_offset[row]), int(self._vectors_length[row]))
        try:
            return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
        except ValueError as error:
            raise self._damaged(row, error) from error

    def window(self, row: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Sound int16 `[samples]` and vectors float16 `[frames, dimensions]` of one window."""
        return self.sound(row, window.first_sample, window.samples), self.vectors(row)[list(window.frames)]

    def close(self) -> None:
        """Close the files held open."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def _read(self, row: int, offset: int, length: int) -> bytes:
        shard = int(self._shard[row])
        name = self._index.tars[shard]
        local = self._index.store.local_path(name)
        try:
            if local is None:
                data = self._index.store.read_range(name, offset, length)
            else:
                if shard not in self._descriptors:
                    self._descriptors[shard] = os.open(local, os.O_RDONLY)
                data = os.pread(self._descriptors[shard], length, offset)
        except FileNotFoundError:
            raise CorpusError(f"the training shard {self._url(row)} is gone; pack again under another name") from None
        if len(data) != length:
            raise CorpusError(f"the training shard {self._url(row)} is shorter than its index says; pack again")
        return data

    def _damaged(self, row: int, error: Exception) -> CorpusError:
        key = self._index.table["key"][int(row)].as_py()
        return CorpusError(f"sample {key} of the training shard {self._url(row)} is damaged ({error}); pack again")

    def _url(self, row: int) -> str:
        return f"{self._index.store.url}/{self._index.tars[int(self._shard[row])]}"

    def __del__(self) -> None:
        self.close()
