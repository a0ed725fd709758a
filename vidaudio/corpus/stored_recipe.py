"""What a corpus keeps of the recipe it was begun with, and so what is believed of a corpus that somebody else made.

The settings of a run are those of whoever runs it: where the work is done, how sites are reached, which code reads
them. They are neither written into a corpus nor read from one. A `corpus.json` that holds some all the same, since
another version or a stranger wrote it, cannot make a command import a module, submit a job or ask an address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidaudio.config.corpus import ExtractLimits, FetchPolicy

# Settings of a run, as pydantic's `exclude` takes them. Cookies and proxies may hold passwords besides.
RUN_SETTINGS: Mapping[str, Any] = {
    "dask": True,
    "manifest": True,
    "corpus": True,
    "download": set(FetchPolicy.model_fields),
    "extract": set(ExtractLimits.model_fields),
}


def without_run_settings(recipe: Any) -> Any:
    """Return a stored recipe without the settings of a run; what is no recipe at all comes back as it is."""
    if not isinstance(recipe, Mapping):
        return recipe
    kept = {}
    for key, value in recipe.items():
        dropped = RUN_SETTINGS.get(key, ())
        if dropped is True:
            continue
        if isinstance(value, Mapping):
            value = {inner: setting for inner, setting in value.items() if inner not in dropped}
        kept[key] = value
    return kept
