"""Reader of samples: sound, vectors and pictures are read by byte range and decoded; nothing is unpickled."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vidaudio.errors import MediaError, PackError, UsageError
from vidaudio.media.flac import BadSound, decode_sound
from vidaudio.shards.links import open_regular
from vidaudio.shards.tar import BadTar, Member, list_members
from vidaudio.stream.cache import CachedTars
from vidaudio.stream.index import TrainingIndex
from vidaudio.stream.lru import LruCache
from vidaudio.stream.vector_columns import VectorColumn
from vidaudio.stream.vector_files import read_header
from vidaudio.stream.windows import Window

WAV_HEADER_BYTES = 44
MAX_OPEN_TARS = 128
# Number of shards whose tar headers are kept; only for pictures, whose positions the index does not contain.
MAX_LISTED_TARS = 64


class DamagedSample(PackError):
    """A sample that cannot be read or decoded; other samples of its shard may be readable."""


class _Places:
    """Where the vectors of one column are, and the shapes of their headers that were found valid."""

    def __init__(self, column: VectorColumn, index: TrainingIndex) -> None:
        self.column = column
        self.offset = index.column(column.offset)
        self.length = index.column(column.length)
        self.shapes: dict[bytes, tuple[int, ...]] = {}
        self._seconds = index.lists(column.seconds) if column.input == "sound" else None

    def starts(self, row: int) -> np.ndarray:
        """Return the start of each window of time of a sample, seconds."""
        assert self._seconds is not None, "only vectors of sound have windows of time"
        seconds, ends = self._seconds
        return seconds[ends[row] : ends[row + 1]]

    def shape(self, header: bytes) -> tuple[int, ...]:
        """Return the shape in a NumPy header of vectors; valid headers are cached by their bytes.

        Raises:
            ValueError: When the header is not one of this column's vectors.
        """
        shape, kind, _ = read_header(header)
        if kind != np.float16 or shape[1:] != (self.column.dimensions,):
            raise ValueError(f"vectors {kind} {list(shape)}, not float16 of {self.column.dimensions}")
        self.shapes[header] = shape
        return shape


class SampleReader:
    """Reader of windows and whole samples, one per process; files stay open between reads.

    Args:
        index: Index of the corpus.
        tars: Local copies of a remote corpus's tars; with None, each member of a remote tar is read by one request.
    """

    def __init__(self, index: TrainingIndex, tars: CachedTars | None = None) -> None:
        self._index = index
        self._tars = tars
        self._by_request = tars is None and index.store.local_path("") is None
        self._open: LruCache[int] = LruCache(MAX_OPEN_TARS, forget=os.close)
        self._listed: LruCache[dict[str, Member]] = LruCache(MAX_LISTED_TARS)
        self._places: dict[str | None, _Places] = {}
        self._start_seconds = index.column("audio_start_seconds")
        self._shard = index.column("shard")
        self._audio_offset = index.column("audio_offset")
        self._audio_length = index.column("audio_length")
        self._samples = index.column("samples")

    def sound(
        self, row: int, first: int = 0, samples: int | None = None, *, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Return a stretch of a sample's sound, int16, with zeros outside the sound.

        Args:
            row: Row of the sample in the index.
            first: First value of the stretch, counted from the start of the sound; may be negative.
            samples: Number of values; None reads to the end of the sound.
            out: Array of this length to write the stretch to; None for a new one.

        Raises:
            DamagedSample: When the sound is truncated or cannot be decoded.
            PackError: When the shard is missing or cannot be read.
        """
        total = int(self._samples[row])
        samples = total - first if samples is None else samples
        begin, end = max(0, first), min(total, first + samples)
        out = np.empty(samples, np.int16) if out is None else out
        if end <= begin:
            out[:] = 0
            return out
        place = slice(begin - first, end - first)
        out[: place.start] = out[place.stop :] = 0
        if self._index.audio == "wav":
            # PCM needs no decoder, and only the bytes of the window are read.
            at = int(self._audio_offset[row]) + WAV_HEADER_BYTES + 2 * begin
            out[place] = np.frombuffer(self._read(row, at, 2 * (end - begin)), "<i2")
            return out
        data = self._read(row, int(self._audio_offset[row]), int(self._audio_length[row]))
        try:
            out[place] = decode_sound(data, first=begin, count=end - begin)[0]
        except BadSound as error:
            raise self._damaged(row, error) from error
        return out

    def vectors(self, row: int, encoder: str | None = None) -> np.ndarray:
        """Return all vectors of a sample that an encoder made, float16 `[vectors, dimensions]`.

        Args:
            row: Row of the sample in the index.
            encoder: Name of the encoder; None for the pack's first.

        Raises:
            DamagedSample: When the sample's vectors are truncated or invalid.
        """
        places = self._places_of(encoder)
        data = self._read(row, int(places.offset[row]), int(places.length[row]))
        # The header must be parsed, and is the same for all samples with the same number of vectors.
        header = data[: 10 + int.from_bytes(data[8:10], "little")]
        try:
            shape = places.shapes.get(header) or places.shape(header)
            return np.frombuffer(data, np.float16, offset=len(header)).reshape(shape)
        except ValueError as error:
            raise self._damaged(row, error) from error

    def pictures(self, row: int, numbers: tuple[int, ...]) -> np.ndarray:
        """Return pictures of the sample, uint8 `[numbers, 3, H, W]`.

        Raises:
            DamagedSample: When a picture cannot be decoded.
            UsageError, PackError: When the pack holds no pictures, or is remote and read without local copies.
        """
        from vidaudio.media.pictures import read_frame

        listed, key = self._members(row), self._index.text("key", row)
        found = []
        for number in numbers:
            member = listed.get(f"{key}.{number:03d}.jpg")
            if member is None:
                raise PackError(
                    f"{self._index.store.url} holds no pictures (there is no {key}.{number:03d}.jpg); pack under "
                    "another name with pack.frames: true, or train without frames"
                )
            data = self._read(row, member.offset, member.length)
            try:
                found.append(np.asarray(read_frame(data, name=f"picture {number}")).transpose(2, 0, 1))
            except MediaError as error:
                raise self._damaged(row, error) from error
        return np.stack(found)

    def window(self, row: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Return the sound int16 `[samples]` of one window, and its vectors of the pack's first encoder."""
        vectors = self.window_vectors(row, window)
        return self.window_sound(row, window), vectors

    def window_vectors(self, row: int, window: Window, encoder: str | None = None, *, draw: float = 0.0) -> np.ndarray:
        """Return an encoder's vectors of one window, float16 `[vectors, dimensions]`.

        They are those of the window's pictures; those of the windows of time around its middle, see
        `VectorColumn.rows_around`; or the vector of one text of the sample.

        Args:
            row: Row of the sample in the index.
            window: The window.
            encoder: Name of the encoder; None for the pack's first.
            draw: Which of the sample's texts, as a share of their number, 0 to below 1.

        Raises:
            DamagedSample, PackError: As `vectors`, or when the sample has too few vectors.
        """
        vectors = self.vectors(row, encoder)
        places = self._places_of(encoder)
        if places.column.input == "frames":
            if window.frames[-1] >= len(vectors):
                raise self._damaged(row, f"{len(vectors)} vectors where there should be more")
            return vectors[list(window.frames)]
        if not len(vectors):
            raise self._damaged(row, f"no vector of {places.column.encoder}")
        if places.column.input == "text":
            return vectors[int(draw * len(vectors))][None]
        starts = places.starts(row)
        if len(starts) != len(vectors):
            raise self._damaged(row, f"{len(vectors)} vectors where there should be {len(starts)}")
        rate = self._index.sample_rate
        middle = float(self._start_seconds[row]) + (window.first_sample + window.samples / 2) / rate
        count = places.column.per_window(len(window.frames), window.samples / rate)
        return vectors[places.column.rows_around(starts, middle, count)]

    def window_sound(self, row: int, window: Window, *, out: np.ndarray | None = None) -> np.ndarray:
        """Return the sound of one window, int16 `[samples]`, as CLIPSep's loader cuts it.

        A sound that is shorter than the window is repeated beyond its end; everything else outside the sound is zero.

        Args:
            row: Row of the sample in the index.
            window: The window.
            out: Array to write the sound to; None for a new one. Batches are written this way: an array of its own for
                every window costs page faults.

        Raises:
            DamagedSample, PackError: As `sound`.
        """
        total = int(self._samples[row])
        if not 0 < total < window.samples:
            return self.sound(row, window.first_sample, window.samples, out=out)
        whole = self.sound(row)
        out = np.empty(window.samples, np.int16) if out is None else out
        begin = max(0, -window.first_sample)
        out[:begin] = 0
        out[begin:] = whole[(window.first_sample + np.arange(begin, window.samples)) % total]
        return out

    def close(self) -> None:
        """Close the open files."""
        self._open.clear()

    def _places_of(self, encoder: str | None) -> _Places:
        found = self._places.get(encoder)
        if found is None:
            found = self._places[encoder] = _Places(self._index.vectors_of(encoder), self._index)
        return found

    def _members(self, row: int) -> dict[str, Member]:
        """Return the members of the sample's tar by name; the tar's headers are read once."""
        shard = int(self._shard[row])
        if self._by_request:
            raise UsageError("pictures of a remote corpus need local copies of its shards; set cache_bytes above 0")
        # Through the descriptor, since a copy's name may be deleted while it is read.
        try:
            return self._listed.get(shard, lambda: list_members(Path(f"/dev/fd/{self._descriptor(row)}")))
        except BadTar as error:
            raise DamagedSample(f"the training shard {self._url(row)} is damaged: {error}; pack again") from error

    def _descriptor(self, row: int) -> int:
        shard = int(self._shard[row])
        return self._open.get(shard, lambda: self._open_tar(shard))

    def _open_tar(self, shard: int) -> int:
        if self._tars is not None:
            return self._tars.open(shard)
        name = self._index.tars[shard]
        path = self._index.store.local_path(name)
        assert path is not None, "the tars of a remote store are cached or read by requests"
        return open_regular(path, name)

    def _read(self, row: int, offset: int, length: int) -> bytes:
        try:
            if not self._by_request and offset + length > os.fstat(self._descriptor(row)).st_size:
                raise self._short(row)
            if self._by_request:
                data = self._index.store.read_range(self._index.tars[int(self._shard[row])], offset, length)
            else:
                data = self._read_local(row, offset, length)
        except FileNotFoundError:
            raise PackError(f"the training shard {self._url(row)} is gone; pack again under another name") from None
        except OSError as error:
            raise PackError(f"the training shard {self._url(row)} cannot be read: {error.strerror or error}") from error
        if len(data) != length:
            raise self._short(row)
        return data

    def _read_local(self, row: int, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._descriptor(row), length, offset)
        except OSError:
            # On a network disk, the handle of a file that was open for long may be stale; opening it again helps.
            self._open.drop(int(self._shard[row]))
            return os.pread(self._descriptor(row), length, offset)

    def _short(self, row: int) -> DamagedSample:
        return DamagedSample(f"the training shard {self._url(row)} is shorter than its index says; pack again")

    def _damaged(self, row: int, error: Exception | str) -> DamagedSample:
        key = self._index.text("key", row)
        return DamagedSample(f"sample {key} of the training shard {self._url(row)} is damaged ({error}); pack again")

    def _url(self, row: int) -> str:
        return f"{self._index.store.url}/{self._index.tars[int(self._shard[row])]}"

    def __del__(self) -> None:
        self.close()
