"""The modality gap of a packed corpus: measured, with methods fitted against it, as a table and as a page.

Methods are fitted to the training split and measured on the validation split, whose videos are others.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from vidaudio.errors import GapError
from vidaudio.files import atomic_write
from vidaudio.markdown import markdown_table
from vidaudio.modality_gap import ASKING_METHODS, METHODS, GapMeasures, GapMethod, fit_method, measure_gap, save_method
from vidaudio.output_folder import output_folder
from vidaudio.stream.index import open_index
from vidaudio.tasks.queries.blocks import QueryBlock
from vidaudio.tasks.queries.checks import check_vectors
from vidaudio.tasks.queries.encoders import CorpusQueries
from vidaudio.tasks.queries.gap import GapSample, gap_sample

AS_IT_IS = "texts as they are"
PAGE_NAME = "gap.html"
# Pictures that the drawing shows, at most.
MAX_DRAWN = 1_000
COLUMNS = {
    "matched_cosine": "cosine, same label",
    "mismatched_cosine": "another label",
    "centroid_distance": "centroids apart",
    "frechet_distance": "Fréchet",
    "mmd": "MMD",
    "text_recall": "R@1 of texts",
    "image_recall": "R@1 of pictures",
}
HEADS = ("queries in words", *COLUMNS.values())


@dataclass(frozen=True)
class GapReport:
    """Measures of the texts of a packed corpus against its pictures, before and after each method.

    Attributes:
        data: The packed corpus.
        split: Split that was measured.
        pictures: Number of pictures measured.
        texts: Texts that were measured.
        rows: Measures by method; the first row is of the texts as they are.
        files: File of each fitted method; empty if none were written.
        notes: Remarks for the reader.
    """

    data: str
    split: str
    pictures: int
    texts: tuple[str, ...]
    rows: dict[str, GapMeasures]
    files: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict; measures without a meaning are None."""
        rows = {name: measures.as_dict() for name, measures in self.rows.items()}
        about = {"data": self.data, "split": self.split, "pictures": self.pictures, "texts": list(self.texts)}
        return about | {"measures": rows, "files": self.files, "notes": list(self.notes)}

    def table(self) -> list[str]:
        """Return a Markdown table, a row a method."""
        return markdown_table(HEADS, self.cells())

    def cells(self) -> list[list[str]]:
        """Return the table's rows: the method's name, and its measures with three digits."""
        rows = []
        for name, measures in self.rows.items():
            values = measures.as_dict()
            shown = ("-" if values[key] is None else f"{values[key]:.3f}" for key in COLUMNS)
            rows.append([name.replace("_", " "), *shown])
        return rows

    def __str__(self) -> str:
        first = next(iter(self.rows.values()))
        lines = [f"{self.data}, split {self.split}: {self.pictures:,} pictures, {len(self.texts):,} texts", ""]
        lines += self.table()
        lines += ["", f"Cosine of two texts {first.text_cosine:.3f}, of two pictures {first.image_cosine:.3f}."]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"{name}: {file}" for name, file in self.files.items()]
        return "\n".join(lines)


def gap(
    data: str | Path,
    *,
    fit: Sequence[str] = (),
    output: str | Path | None = None,
    vectors: str | None = None,
    encoder_weights: str | None = None,
    seed: int = 0,
    progress: bool = False,
) -> GapReport:
    """Measure the modality gap of a packed corpus, and fit methods against it.

    Args:
        data: A packed corpus.
        fit: Names of methods that turn texts into pictures; `all` for every one that the corpus has the data for.
        output: Folder for `gap.html` and a file per method; None to write nothing.
        vectors: Name of the encoder in the pack; None for the pack's first.
        encoder_weights: Local weights of the encoder; None for the recorded ones.
        seed: Seed of the fits.
        progress: Whether to show a progress bar.

    Raises:
        PackError: When the pack is missing, or has no vectors of a CLIP.
        EncoderError: When the encoder cannot be loaded.
        GapError: When a method is unknown, or the corpus lacks what it is fitted to.
    """
    _check_names(fit)
    with contextlib.nullcontext() if output is None else output_folder(output) as folder:
        train = open_index(str(data), "train")
        encoder = dict(train.vectors_of(vectors).fingerprint)
        query = QueryBlock()
        check_vectors(query, encoder)
        queries = CorpusQueries(encoder, query, encoder_weights)
        sample = gap_sample([train], queries, vectors=vectors)
        held_out, split, notes = sample, "train", []
        if train.splits.get("val"):
            held_out, split = gap_sample([open_index(str(data), "val")], queries, vectors=vectors), "val"
        else:
            notes.append("there is no split val: the measures are of the clips that the methods were fitted to")
        if not len(sample.data.image_rows):
            notes.append("no clip has a label or a caption: texts are names of common sounds")
        names, methods = _wanted(fit, sample), {}
        for name in (bar := tqdm(names, unit="method", disable=not progress or not names, dynamic_ncols=True)):
            bar.set_description(f"fitting {name}")
            methods[name] = fit_method(name, sample.data, seed=seed)
        return _reported(str(data), split, held_out, methods, folder, tuple(notes))


def _check_names(fit: Sequence[str]) -> None:
    """Check names of methods.

    Raises:
        GapError: When a method changes queries in training, or is unknown.
    """
    wrong = sorted(set(fit) - {"all", *ASKING_METHODS})
    if wrong:
        raise GapError(f"{wrong[0]} cannot be fitted here; methods are {', '.join(ASKING_METHODS)}, or all")


def _wanted(fit: Sequence[str], sample: GapSample) -> list[str]:
    """Return the names of methods; of `all`, those that need no pairs where there are none."""
    if "all" not in fit:
        return list(dict.fromkeys(fit))
    paired = len(sample.data.image_rows) > 0
    return [name for name in ASKING_METHODS if paired or "pairs" not in METHODS[name].needs]


def _reported(
    data: str,
    split: str,
    held_out: GapSample,
    methods: dict[str, GapMethod],
    output: Path | None,
    notes: tuple[str, ...],
) -> GapReport:
    images, texts = held_out.data.images, held_out.data.texts
    mapped = {AS_IT_IS: texts} | {name: method.map_texts(texts) for name, method in methods.items()}
    labels = (held_out.image_labels, held_out.text_labels) if len(held_out.data.image_rows) else ((), ())
    rows = {name: measure_gap(images, vectors, *labels) for name, vectors in mapped.items()}
    files = {name: str(output / f"{name}.safetensors") for name in methods} if output is not None else {}
    report = GapReport(data, split, len(images), held_out.text_labels, rows, files, notes)
    if output is not None:
        for name, method in methods.items():
            save_method(method, files[name])
        page = _page(report, _drawing(images, mapped))
        with atomic_write(output / PAGE_NAME) as temporary:
            temporary.write_text(page, encoding="utf-8")
    return report


def _drawing(images: Tensor, mapped: dict[str, Tensor]) -> bytes:
    """Return a PNG: pictures and texts of each method, on the two main axes of pictures and plain texts together."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    unit = {name: torch.nn.functional.normalize(vectors.float(), dim=-1) for name, vectors in mapped.items()}
    pictures = torch.nn.functional.normalize(images.float(), dim=-1)
    pictures = pictures[torch.linspace(0, len(pictures) - 1, min(len(pictures), MAX_DRAWN)).long()]
    both = torch.cat([pictures, unit[AS_IT_IS]])
    centre = both.mean(dim=0)
    axes = torch.linalg.svd(both - centre, full_matrices=False).Vh[:2]
    columns = min(4, len(unit))
    rows = -(-len(unit) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for place in places[len(unit) :]:
        place.set_axis_off()
    for place, (name, vectors) in zip(places, unit.items(), strict=False):
        for points, colour, label in ((pictures, "#2b6cb0", "pictures"), (vectors, "#c05621", "texts")):
            shown = ((points - centre) @ axes.T).numpy()
            place.scatter(shown[:, 0], shown[:, 1], s=8, alpha=0.6, color=colour, label=label)
        place.set_title(name.replace("_", " "), fontsize=10)
        place.set_xticks([])
        place.set_yticks([])
    places[0].legend(fontsize=8)
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=110)
    return sink.getvalue()


def _page(report: GapReport, picture: bytes) -> str:
    heads = "".join(f"<th scope=col>{html.escape(head)}</th>" for head in HEADS)
    body = ""
    for name, *shown in report.cells():
        body += f"<tr><th scope=row>{html.escape(name)}</th>"
        body += "".join(f"<td>{value}</td>" for value in shown) + "</tr>\n"
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in report.notes)
    drawn = base64.b64encode(picture).decode()
    title = html.escape(f"The gap between pictures and words in {report.data}")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }}
.wide {{ overflow-x: auto }}
table {{ border-collapse: collapse }}
th, td {{ padding: .3rem .7rem; border-bottom: 1px solid #8886; text-align: right }}
th:first-child {{ text-align: left }}
img {{ max-width: 100%; background: #fff }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{report.pictures:,} pictures and {len(report.texts):,} texts of the split {html.escape(report.split)}.</p>
<img alt="Pictures and texts on the two main axes of their vectors, before and after each method"
  src="data:image/png;base64,{drawn}">
<div class="wide"><table>
<thead><tr>{heads}</tr></thead>
<tbody>
{body}</tbody>
</table></div>
<p>Cosines: mean over pairs of a picture and a text. Centroids: distance of the mean unit vectors. Fréchet and MMD: of
the unit vectors after each set's mean is removed. R@1: share whose nearest neighbour of the other kind has their
label.</p>
{notes}
</body>
</html>
"""
