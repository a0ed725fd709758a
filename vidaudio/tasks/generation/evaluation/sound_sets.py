"""Sets of sounds as folders of files: real ones, vocoded ones, generated ones, and anyone's.

A set that is written here says in `set.json` what made it. Of the same making, files that exist are kept, so that a
stopped evaluation goes on; of another, all are made anew.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from vidaudio.errors import MediaError, UsageError
from vidaudio.files import atomic_write, name_for_c
from vidaudio.hashing import sha256_of
from vidaudio.media.audio_files import read_sound
from vidaudio.separation import resample

SET_FILE = "set.json"
SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".mp4"})


class SoundSet(ABC):
    """Sounds of one set, by the key of the clip that was asked for, or by their own names.

    Attributes:
        name: Name in tables.
        keys: Keys of the sounds.
    """

    name: str
    keys: tuple[str, ...]

    @abstractmethod
    def read(self, key: str, sample_rate: int) -> np.ndarray:
        """Return a sound, float32 `[samples]` at a sample rate; channels are averaged.

        Raises:
            MediaError: When the sound cannot be read.
        """

    @abstractmethod
    def digest(self, key: str) -> str:
        """Return a hash of the stored sound."""


class ArraySet(SoundSet):
    """Sounds in memory.

    Args:
        name: Name in tables.
        sounds: The sounds, int16 `[samples]`.
        sample_rate: Their sample rate, Hz.
    """

    def __init__(self, name: str, sounds: Mapping[str, np.ndarray], sample_rate: int) -> None:
        self.name, self.keys = name, tuple(sounds)
        self._sounds, self._rate = sounds, sample_rate

    def read(self, key: str, sample_rate: int) -> np.ndarray:
        """Return a sound, float32 `[samples]` at a sample rate."""
        return resample(self._sounds[key].astype(np.float32) / 2**15, self._rate, sample_rate)

    def digest(self, key: str) -> str:
        """Return a hash of the samples and their rate."""
        return hashlib.sha256(f"{self._rate} ".encode() + self._sounds[key].tobytes()).hexdigest()


class FileSet(SoundSet):
    """Sound files.

    Args:
        name: Name in tables.
        files: Path of each sound.
    """

    def __init__(self, name: str, files: Mapping[str, Path]) -> None:
        self.name, self.keys, self.files = name, tuple(files), files

    def read(self, key: str, sample_rate: int) -> np.ndarray:
        """Return a sound, float32 `[samples]` at a sample rate; channels are averaged.

        Raises:
            MediaError: When the file cannot be read.
        """
        sound = read_sound(self.files[key])
        return resample(sound.samples.mean(axis=0), sound.sample_rate, sample_rate)

    def digest(self, key: str) -> str:
        """Return the SHA-256 of the file."""
        return sha256_of(self.files[key])


class SetWriter:
    """Writer of a set's sounds, 16-bit wav.

    Args:
        folder: Folder of the set.
        name: Name of the set.
        made_by: What decides the sounds; plain JSON values.
        sample_rate: Sample rate of the sounds, Hz.
    """

    def __init__(self, folder: Path, name: str, made_by: Mapping[str, Any], sample_rate: int) -> None:
        self._folder, self._name, self._rate = folder, name, sample_rate
        description = {"name": name, "sample_rate": sample_rate, **made_by}
        file = folder / SET_FILE
        text = json.dumps(description, indent=2, sort_keys=True) + "\n"
        if not file.is_file() or file.read_text("utf-8") != text:
            if not file.is_file() and folder.is_dir() and any(folder.iterdir()):
                raise UsageError(f"{folder} holds files that no evaluation wrote; name another --output")
            folder.mkdir(parents=True, exist_ok=True)
            for sound in folder.glob("*.wav"):
                sound.unlink()
            with atomic_write(file) as temporary:
                temporary.write_text(text, "utf-8")

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return the keys whose sounds do not exist yet."""
        return [key for key in keys if not self._path(key).is_file()]

    def write(self, key: str, samples: np.ndarray) -> None:
        """Write one sound, float32 `[samples]` in [-1, 1].

        Raises:
            MediaError: When it cannot be written.
        """
        try:
            with atomic_write(self._path(key)) as temporary:
                soundfile.write(name_for_c(temporary), samples.clip(-1, 1), self._rate, format="WAV", subtype="PCM_16")
        except (soundfile.LibsndfileError, OSError) as error:
            raise MediaError(f"{self._path(key)} cannot be written ({error})") from error

    def done(self, keys: Sequence[str]) -> FileSet:
        """Return the set of some keys."""
        return FileSet(self._name, {key: self._path(key) for key in keys})

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.wav"


def folder_name(name: str) -> str:
    """Return a set's name as that of a folder, with commas for spaces; no two names have one folder.

    A name with other characters than letters, digits and `+-.=_` ends with a hash.
    """
    spaced = name.replace(" ", ",")
    changed = "".join(letter if letter.isalnum() or letter in "+-.=_," else "_" for letter in spaced).strip("_.,")
    if changed == spaced and "," not in name:
        return changed
    return f"{changed or 'set'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def open_folder(name: str, folder: str | Path) -> FileSet:
    """Return the sounds of anyone's folder; a sound belongs to the clip whose key is its file's name without suffix.

    Raises:
        UsageError: When there is no such folder, or no sound in it, or two files have one name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}: --folder wants NAME=FOLDER")
    found: dict[str, Path] = {}
    for path in _sounds_below(folder):
        if path.stem in found:
            raise UsageError(f"{found[path.stem]} and {path} have one name; keep one of them")
        found[path.stem] = path
    if not found:
        raise UsageError(f"there are no sounds in {folder}: files that end in {', '.join(sorted(SUFFIXES))} are read")
    return FileSet(name, found)


def _sounds_below(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file())
