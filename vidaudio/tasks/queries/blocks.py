"""Settings blocks of queries, with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from vidaudio.config.recipes import RecipeModel
from vidaudio.encoders.prompts import CLIPSEP_TEMPLATES, TRAINING_TEMPLATE, check_templates

Modality = Literal["image", "text", "sound"]
AskingMethod = Literal["none", "mean_shift", "standardise", "recolour", "retrieval", "ridge", "mlp", "prior", "bridge"]


class BertBlock(RecipeModel):
    """BERT that makes the labels' vectors, see vidaudio.encoders.bert.BertSpec."""

    model: str = "google/bert_uncased_L-4_H-256_A-4"
    pooling: Literal["cls", "mean"] = "cls"


class ClapBlock(RecipeModel):
    """CLAP that makes the vectors of labels or of sound, see vidaudio.encoders.clap."""

    model: str = "laion/clap-htsat-unfused"
    tokens: int = Field(77, ge=3, le=512, description="length of a text's states, for U-Nets that attend to them")


class PicturesBlock(RecipeModel):
    """The ResNet-18 that encodes the pictures themselves."""

    weights: str | None = Field(None, description="a file of torchvision's ResNet-18, or IMAGENET1K_V1")
    trained: bool = Field(True, description="as in Zhao et al.; False: frozen, as CLIPSep re-implemented it")
    augment: bool = Field(True, description="random crop and flip in training")


class GapBlock(RecipeModel):
    """What is done about the gap between pictures in training and words afterwards, see `vidaudio.modality_gap`."""

    train: Literal["none", "dropout", "noise", "centred_noise", "mixup"] = Field(
        "none", description="changes queries in training; mixup needs labels"
    )
    ask: AskingMethod = Field(
        "none", description="turns a query in words into one like a picture's; ridge, mlp and prior need labels"
    )
    options: dict[str, dict[str, float | int]] = Field(
        {}, description="of methods, by their names, such as {dropout: {rate: 0.25}}"
    )


class QueryBlock(RecipeModel):
    """Queries of the system: their kind, encoder, modality and wording."""

    kind: Literal["corpus", "label", "bert", "clap", "vectors", "pictures", "none"] = Field(
        "corpus",
        description="the corpus's vectors; a learned vector a label; BERT's; CLAP's; a table's; a ResNet's; it is not "
        "asked",
    )
    encoder: Literal["clip", "resnet18-dilated"] = Field("clip", description="what the corpus's vectors must be of")
    train: Literal["image", "text", "alternate", "sound"] = "image"
    validation: Modality = "image"
    train_templates: tuple[str, ...] = Field((TRAINING_TEMPLATE,), description="sentences for a label in training")
    templates: tuple[str, ...] = Field(CLIPSEP_TEMPLATES, description="sentences whose mean stands for a label")
    mixture_template: str = Field(
        "The sound mixture of {}", description="sentence for several labels, where parts of a mixture are asked for"
    )
    unlabelled: Literal["skip", "refuse"] = Field("skip", description="clips without a label, where labels are asked")
    label_dimensions: int = Field(512, ge=1, description="of a learned label vector")
    bert: BertBlock = BertBlock()
    clap: ClapBlock = ClapBlock()
    vectors: str | None = Field(None, description="a table of a vector a label, .npz, for queries of kind vectors")
    pictures: PicturesBlock = PicturesBlock()
    gap: GapBlock = GapBlock()

    @field_validator("templates", "train_templates")
    @classmethod
    def _have_a_place(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_templates(value)

    @field_validator("mixture_template")
    @classmethod
    def _has_a_place(cls, value: str) -> str:
        return check_templates((value,))[0]


# Modalities that each kind of query can be made from.
_MODALITIES: Mapping[tuple[str, str | None], set[Modality]] = {
    ("corpus", "clip"): {"image", "text"},
    ("corpus", "resnet18-dilated"): {"image"},
    ("label", None): {"text"},
    ("bert", None): {"text"},
    ("clap", None): {"text", "sound"},
    ("vectors", None): {"text"},
    ("pictures", None): {"image"},
    ("none", None): set(),
}


def modalities(query: QueryBlock) -> set[Modality]:
    """Return the modalities that queries of this kind support; empty for a system without queries."""
    return _MODALITIES[query.kind, query.encoder if query.kind == "corpus" else None]
