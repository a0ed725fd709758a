"""Pictures a second of ViT-B/32 (random weights: only speed counts), through `ClipEncoder` against the bare model.

    python -m benchmarks.embedding

`model` is the picture tower on batches that lie ready as tensors; `encoder` takes JPEG bytes and does everything:
decode, stack, normalise, run, copy back. Both with the threads PyTorch chooses, in float32 and, where it is native,
bfloat16.
"""

from __future__ import annotations

import io
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image

from benchmarks.common import report, side_by_side
from vidaudio.encoders.clip import DTYPES, EncoderSpec, best_precision, load_encoder

PICTURES, BATCH = 256, 64


def main() -> None:
    rng = np.random.default_rng(0)
    smooth = [Image.fromarray(rng.integers(0, 255, (14, 14, 3), np.uint8)).resize((224, 224)) for _ in range(PICTURES)]
    jpegs = []
    for picture in smooth:
        sink = io.BytesIO()
        picture.save(sink, "JPEG", quality=92)
        jpegs.append(sink.getvalue())
    contestants = {}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        torch.save(open_clip.create_model("ViT-B-32", pretrained=None).state_dict(), weights)
        for precision in dict.fromkeys(("float32", best_precision())):
            encoder = load_encoder(EncoderSpec("ViT-B-32", str(weights), precision, BATCH))
            tower = open_clip.create_model("ViT-B-32", pretrained=None).visual.eval().to(DTYPES[precision])
            ready = torch.randn(BATCH, 3, 224, 224).to(DTYPES[precision])

            @torch.inference_mode()
            def model(tower=tower, ready=ready) -> int:
                for _ in range(PICTURES // BATCH):
                    tower(ready)
                return PICTURES

            def through(encoder=encoder) -> int:
                with ThreadPoolExecutor(2) as pool:
                    squares = pool.map(lambda data: encoder.square(Image.open(io.BytesIO(data))), jpegs)
                    encoder.embed_squares(list(squares))
                return PICTURES

            contestants |= {f"{precision} model": model, f"{precision} encoder": through}
        rates = side_by_side(contestants)
    report("embedding", rates, "float32 model", {"pictures": PICTURES, "batch_size": BATCH})
    for precision in {name.split()[0] for name in rates}:
        print(f"  {precision}: {rates[f'{precision} encoder'] / rates[f'{precision} model']:.0%} of the bare model")


if __name__ == "__main__":
    main()
