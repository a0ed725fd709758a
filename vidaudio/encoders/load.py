"""Loading encoders: CLIP models of open_clip by tag, folder or hub name, and ResNets; loaded once a process."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Any

import open_clip

from vidaudio.encoders.clip import ClipEncoder
from vidaudio.encoders.image import PictureEncoder
from vidaudio.encoders.library_settings import cache_only_where_hub_is_silent, quiet_libraries
from vidaudio.encoders.named_by import loading
from vidaudio.encoders.spec import PACKAGE_FOLDER, RESNET, EncoderSpec, spelled
from vidaudio.errors import EncoderError

CONFIG_NAME = "open_clip_config.json"
# Prefixes of names of folders and hubs, which are not in open_clip's own list.
_ELSEWHERE = ("hf-hub:", "local-dir:")


def load_encoder(spec: EncoderSpec) -> PictureEncoder:
    """Load an encoder by what goes in; only encoders of pictures are known, of which CLIP's also embed sentences.

    Weights are downloaded only for a tag or a hub name.

    Raises:
        EncoderError: When no such encoder is known, the architecture or tag is unknown, or weights are unavailable or
            unreadable; the message explains what to name instead.
    """
    spec = spec.resolved()
    load = _LOADERS.get(spec.input)
    if load is None:
        raise EncoderError(f"{spec.architecture}: no encoder of {spec.input} is known, only of {', '.join(_LOADERS)}")
    with loading(spelled(spec), local_places(spec), spec.named_by):
        return load(spec)


def _load_picture_encoder(spec: EncoderSpec) -> PictureEncoder:
    if spec.architecture.startswith(RESNET):
        from vidaudio.encoders.resnet import load_resnet_encoder

        return load_resnet_encoder(spec)
    name = _known_name(spec)
    return _load_folder_or_hub(spec, name) if name.startswith(_ELSEWHERE) else _load_named(spec, name)


# Loaders of encoders, by what goes in.
_LOADERS = {"frames": _load_picture_encoder}


def local_places(spec: EncoderSpec) -> list[str]:
    """Return the files and folders on this machine that an encoder is read from, except those in this package.

    The disk is not read: a name that is in no list is taken for a path.
    """
    architecture, weights = spec.architecture, spec.pretrained
    places = []
    if architecture.startswith("hf-hub:"):
        return []
    if architecture.startswith(RESNET):
        from torchvision.models import ResNet18_Weights

        tags = list(ResNet18_Weights.__members__)
    elif architecture in open_clip.list_models():
        tags = open_clip.list_pretrained_tags_by_model(architecture)
    else:
        places.append(architecture.removeprefix("local-dir:"))
        # A folder has its own weights; a config does not.
        tags = open_clip.list_pretrained_tags_by_model(Path(architecture).stem)
        weights = weights if architecture.endswith(".json") else None
    if weights and weights not in tags:
        places.append(weights)
    return [place for place in places if not _in_package(place)]


def _in_package(place: str) -> bool:
    inside = os.path.abspath(place.replace("{package}", str(PACKAGE_FOLDER)))
    return inside.startswith(f"{PACKAGE_FOLDER}{os.sep}")


def check_encoder_files(spec: EncoderSpec) -> int | None:
    """Detect errors of `load_encoder` in names and local files, without loading or downloading weights.

    Returns:
        The side of the images that the configuration asks for, in pixels; None if it is known only after loading.

    Raises:
        EncoderError: When `load_encoder` would raise it for names and local files.
    """
    if spec.architecture.startswith(RESNET):
        return None
    name = _known_name(spec)
    if name.startswith("hf-hub:"):
        return None
    if name.startswith("local-dir:"):
        try:
            config = json.loads(_folder_config(name).read_text())["model_cfg"]
        except (ValueError, KeyError, TypeError):
            return None  # the loader reports this error itself
    else:
        _check_weights(spec, name)
        config = open_clip.get_model_config(name)
    size = config.get("vision_cfg", {}).get("image_size") if isinstance(config, dict) else None
    return size if isinstance(size, int) else None


def _known_name(spec: EncoderSpec) -> str:
    """Return the architecture's name for open_clip: a known name, or one that begins with `local-dir:` or `hf-hub:`."""
    name = spec.architecture.replace("{package}", str(PACKAGE_FOLDER))
    if name.startswith(_ELSEWHERE):
        return name
    if name.endswith(".json"):
        _register_config(Path(name))
        name = Path(name).stem
    if name not in open_clip.list_models():
        if Path(name).is_dir():
            return f"local-dir:{name}"
        near = difflib.get_close_matches(name, open_clip.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "open_clip.list_models() lists them."
        raise EncoderError(f"open_clip knows no architecture {name!r}, and there is no such folder or file; {hint}")
    return name


def _register_config(path: Path) -> None:
    """Register a model config with open_clip after a check: an invalid one would break every later look-up."""
    if not path.is_file():
        raise EncoderError(f"there is no model config {path}")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise EncoderError(f"{path} is not JSON: {error}") from error
    wanted = ("embed_dim", "vision_cfg", "text_cfg")
    missing = [key for key in wanted if not isinstance(config, dict) or key not in config]
    if missing:
        raise EncoderError(f"{path} is no model config of open_clip: it has no {', '.join(missing)}")
    open_clip.add_model_config(path)


def _check_weights(spec: EncoderSpec, name: str) -> None:
    weights = spec.pretrained
    if not weights:
        raise EncoderError(f"{name} needs weights: name a tag of open_clip or a local file as `pretrained`")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights not in tags:
        if not Path(weights).is_file():
            raise EncoderError(
                f"{weights!r} is neither a weights file nor a tag of {name} (tags: {', '.join(tags) or 'none'})"
            )
        if weights.endswith(".json"):
            raise EncoderError(f"{weights} is a config, not weights")


def _load_named(spec: EncoderSpec, name: str) -> ClipEncoder:
    _check_weights(spec, name)
    weights, tags = spec.pretrained, open_clip.list_pretrained_tags_by_model(name)
    wants_hub = weights in tags or "hf_tokenizer_name" in open_clip.get_model_config(name)["text_cfg"]
    try:
        with quiet_libraries(), cache_only_where_hub_is_silent(wants_hub):
            model, preprocess = open_clip.create_model_from_pretrained(
                name,
                pretrained=weights,
                precision="fp32",
                return_transform=True,
                # OpenAI's weights under a plain architecture name would otherwise run with another activation.
                force_quick_gelu=bool((open_clip.get_pretrained_cfg(name, weights) or {}).get("quick_gelu")),
            )
            tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:
        # Hubs, caches and pickles raise dozens of error types; the user can do the same two things for each of them.
        raise out_of_reach(f"{name}/{weights}", error, _published_at(name, weights)) from error
    return ClipEncoder(spec, model, preprocess, tokenizer)


def _folder_config(name: str) -> Path:
    folder = Path(name.removeprefix("local-dir:"))
    if not (folder / CONFIG_NAME).is_file():
        raise EncoderError(f"{folder} has no {CONFIG_NAME}")
    return folder / CONFIG_NAME


def _load_folder_or_hub(spec: EncoderSpec, name: str) -> ClipEncoder:
    options = {}
    if not name.startswith("hf-hub:"):
        folder = _folder_config(name).parent
        name = f"local-dir:{folder}"
        options = _tokenizer_options(folder)
    try:
        with quiet_libraries(), cache_only_where_hub_is_silent(name.startswith("hf-hub:")):
            model, preprocess = open_clip.create_model_from_pretrained(name, precision="fp32", return_transform=True)
            tokenizer = open_clip.get_tokenizer(name, **options)
    except Exception as error:
        raise out_of_reach(name, error, _hub_page(name)) from error
    return ClipEncoder(spec, model, preprocess, tokenizer)


def _tokenizer_options(folder: Path) -> dict[str, Any]:
    """Return tokenizer options; a relative vocabulary path in the folder's config is relative to that folder."""
    try:
        config = json.loads((folder / CONFIG_NAME).read_text())
    except json.JSONDecodeError as error:
        raise EncoderError(f"{folder / CONFIG_NAME} is not JSON: {error}") from error
    options = config.get("model_cfg", config).get("text_cfg", {}).get("tokenizer_kwargs", {})
    vocabulary = options.get("bpe_path")
    return {"bpe_path": str(folder / vocabulary)} if vocabulary and not os.path.isabs(vocabulary) else {}


def _published_at(name: str, tag: str | None) -> str:
    """Return where the weights of an open_clip tag are published, in words; empty for a local file."""
    config = open_clip.get_pretrained_cfg(name, tag or "") or {}
    places = [str(config["url"])] if config.get("url") else []
    repository, _, file = str(config.get("hf_hub") or "").rpartition("/")
    if repository:
        places.append(f"{file or 'open_clip_model.safetensors'} of the model {repository} on the Hugging Face hub")
    return ", or ".join(places)


def _hub_page(name: str) -> str:
    """Return which files of a hub's model make a folder that can be named instead; empty for a folder."""
    if not name.startswith("hf-hub:"):
        return ""
    model = name.removeprefix("hf-hub:")
    return f"{CONFIG_NAME} and open_clip_model.safetensors of the model {model} on the Hugging Face hub"


def out_of_reach(name: str, error: Exception, published_at: str = "") -> EncoderError:
    """Return the error for the user whose encoder cannot be loaded.

    Args:
        name: Name of the encoder.
        error: The library's error.
        published_at: The file that is needed and where it is published; empty if unknown.
    """
    first = str(error).strip().split("\n")[0].split(". ")[0] or "no message"
    wanted = f"fetch {published_at} elsewhere, copy it here" if published_at else "copy the file here"
    setting = "embed.encoder" if name.startswith("hf-hub:") else "embed.encoder.pretrained"
    place = "/path/to/folder" if name.startswith("hf-hub:") else "/path/to/weights.safetensors (or .pt)"
    return EncoderError(
        f"the weights of {name} cannot be loaded ({type(error).__name__}: {first}). "
        f"If this machine cannot fetch them, {wanted} and name it: --set {setting}={place}."
    )
