"""Short names of encoders in the package, and the one-text form of encoder names: `--set embed.encoder=demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SHIPPED: dict[str, dict[str, Any]] = {
    "demo": {"architecture": "{package}/demo/clip", "pretrained": None},
    "demo-resnet": {
        "architecture": "resnet18-dilated-64",
        "pretrained": "{package}/demo/resnet/resnet18.safetensors",
    },
}
# Prefixes of names that have no tag after a slash: hubs, folders, paths.
_WHOLE = ("hf-hub:", "local-dir:", "{package}", "/", "./", "../", "~")


def named_encoder(name: str) -> dict[str, Any]:
    """Return architecture and weights of an encoder that is given by one text.

    Args:
        name: A short name (`demo`), an architecture with its tag (`ViT-B-32/openai`), a folder, or a hub's name.
    """
    if name in SHIPPED:
        return dict(SHIPPED[name])
    if name.startswith(_WHOLE) or Path(name).exists():
        return {"architecture": name, "pretrained": None}
    architecture, slash, tag = name.rpartition("/")
    return {"architecture": architecture, "pretrained": tag} if slash else {"architecture": name}
