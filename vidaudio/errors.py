"""Errors meant for people.

Whatever a user can get wrong raises a `VidaudioError` whose text is the whole message: what was wrong, where, and what
to do about it. The command line prints that text and exits with `exit_code`; anything else that escapes is a bug of
ours and keeps its traceback.
"""


class VidaudioError(Exception):
    """Something the user can mend. The message says what was wrong, where, and what to do."""

    exit_code = 1


class ManifestError(VidaudioError):
    """A list of videos that cannot be read as it stands: names file, line and reason."""


class RecipeError(VidaudioError):
    """A recipe with an unknown key or a value that does not fit: says where, and what was expected."""


class UsageError(VidaudioError):
    """An argument or an option that does not fit: says what was given, and what can be."""


class StoreError(VidaudioError):
    """A folder or an object store that cannot be opened, read or written."""


class ClusterError(VidaudioError):
    """A Dask cluster that does not answer, has no workers, or cannot be started."""


class CorpusError(VidaudioError):
    """A corpus that is missing, damaged, or was built from other settings than those asked for."""


class BuildError(VidaudioError):
    """A build in which tasks failed: names each cause once. What was committed stays."""


class PackError(CorpusError):
    """A packed corpus that is missing or damaged, or lacks what is asked of it."""


class TooFewSources(PackError):
    """A packed corpus with too few sources, or labels, for the mixtures that are asked of it."""


class EncoderError(VidaudioError):
    """An encoder whose weights or configuration cannot be had, or that does not fit the corpus."""


class CheckpointError(VidaudioError):
    """A checkpoint that is missing, unreadable, or of another system."""


class TrainingError(VidaudioError):
    """A training that cannot go on or cannot be started as asked."""


class LoaderError(VidaudioError):
    """A process that reads training examples failed: says why, and what to do."""


class MediaError(VidaudioError):
    """A sound or video file named by the user that cannot be read."""


class QueryError(VidaudioError):
    """A query that a system cannot be asked: says what it can be asked instead."""


class ScorerError(VidaudioError):
    """A scorer of correspondence cannot be fitted, read or used."""


class GapError(VidaudioError):
    """A method against the modality gap cannot be fitted, read or applied to these vectors."""
