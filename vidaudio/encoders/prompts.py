"""Prompt templates: four sentences whose mean embedding represents a label at test time.

Source: CLIPSep (Dong et al., ICLR 2023). The released evaluation script lists the second one twice and ends each with a
full stop; the paper's four are used here.
"""

CLIPSEP_TEMPLATES = (
    "a photo of {}",
    "a photo of the small {}",
    "a low resolution photo of a {}",
    "a photo of many {}",
)

# The single prompt that CLIPSep-Text trains with.
TRAINING_TEMPLATE = "a photo of {}"
# Each label is encoded once per template; CLIP's own list for ImageNet has 80.
MAX_TEMPLATES = 500


def check_templates(templates: tuple[str, ...], word: str = "template") -> tuple[str, ...]:
    """Return the templates after a check; they may come from another person's checkpoint.

    Args:
        templates: Sentences with {} for the label.
        word: Word for a template in error messages.

    Raises:
        ValueError: When there are none or too many, or one does not have exactly one {}.
    """
    if not templates or not all(template.count("{}") == 1 for template in templates):
        raise ValueError(f"every {word} has one {{}} for the label, and there is at least one")
    if len(templates) > MAX_TEMPLATES:
        raise ValueError(f"there are {len(templates):,} {word}s, and at most {MAX_TEMPLATES} may be stated")
    return templates


def fill(templates: tuple[str, ...], label: str) -> list[str]:
    """Insert the label into every template; underscores, as in MUSIC's labels, become spaces."""
    words = label.replace("_", " ").strip()
    # Not `format`: other braces in a template are plain text.
    return [template.replace("{}", words) for template in templates]
