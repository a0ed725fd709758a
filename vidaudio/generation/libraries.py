"""Libraries that only generation needs, imported when they are first used."""

from __future__ import annotations

import importlib
from typing import Any

from vidaudio.errors import UsageError


def require(name: str, *, extra: str = "generation") -> Any:
    """Return an imported library, or a module of one.

    Args:
        name: Name of the module.
        extra: Extra of the package that installs the library.

    Raises:
        UsageError: When it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise UsageError(
            f"{error.name} is not installed, which generating sound needs: pip install 'vidaudio[{extra}]'"
        ) from None
