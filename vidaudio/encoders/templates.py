"""Prompt templates: the four sentences whose mean embedding stands for a label at test time.

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


def fill(templates: tuple[str, ...], label: str) -> list[str]:
    """The label set into every template; underscores, as MUSIC writes its labels, become spaces."""
    return [template.format(label.replace("_", " ").strip()) for template in templates]
