"""The part of a recipe that a corpus stores, and thus what is trusted of a corpus that somebody else made.

The settings of a run belong to whoever runs it: where work runs, how sites are reached, which code reads them. They are
neither written into a corpus nor read from one. Another version or a stranger may have written some into a
`corpus.json`. They cannot make a command import a module, submit a job or contact an address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidaudio.config.corpus import ExtractLimits, FetchPolicy

# Settings of a run, in the form of pydantic's `exclude`. Cookies and proxies may also contain passwords.
RUN_SETTINGS: Mapping[str, Any] = {
    "dask": True,
    "manifest": True,
    "corpus": True,
    "download": set(FetchPolicy.model_fields),
    "extract": set(ExtractLimits.model_fields),
}


def without_run_settings(recipe: Any) -> Any:
    """Return a stored recipe without the settings of a run; a value that is no mapping is returned as it is."""
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
