"""How much of a spread the samplers keep: mels of independent normal numbers, and the best possible network for them.

    python -m benchmarks.sampler_spread [--deviations 0.3,0.1,0.03]

The network knows the distribution, so that what is lost is lost by the sampler. All are of the full process, 4,000
steps of noise in training.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from benchmarks.common import write_result
from vidaudio.generation import Diffusion, ExampleNoise, SamplerConfig, sample

MEAN = 0.3
SHAPE = (64, 128)
EXAMPLES = 4
SAMPLERS = (
    *(("sde-dpm-solver++", spacing) for spacing in ("log_snr", "trailing", "even")),
    *(("dpm-solver++", spacing) for spacing in ("log_snr", "trailing", "even")),
    *(("ddim", spacing) for spacing in ("log_snr", "trailing", "even")),
    ("ancestral", "even"),
)
STEPS = (25, 50, 100, 250, 1000)


def best_network(process: Diffusion, deviation: float):
    """Return the network that predicts the expected noise, at steps and between them."""
    log_snr = 0.5 * (process.signal.log() - (-process.signal).log1p())

    def predict(noisy: Tensor, times: Tensor) -> Tensor:
        number = (times[0].double() * process.config.steps / 1000).clamp(0, process.steps - 1)
        below = int(number)
        above = min(below + 1, process.steps - 1)
        share = torch.sigmoid(2 * torch.lerp(log_snr[below], log_snr[above], number - below))
        amplitude, spread = share.sqrt(), (1 - share).sqrt()
        noise = spread * (noisy - amplitude * MEAN) / (share * deviation**2 + 1 - share)
        return torch.cat([noise, torch.full_like(noise, -1.0)], dim=1)

    return predict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deviations", default="0.3,0.1,0.03")
    chosen = parser.parse_args()
    process, rows = Diffusion(), []
    for name, spacing in SAMPLERS:
        for steps in STEPS:
            config = SamplerConfig(name, steps, spacing)
            row = {"sampler": name, "spacing": spacing, "steps": steps}
            for deviation in map(float, chosen.deviations.split(",")):
                predict = best_network(process, deviation)
                found = sample(process, predict, ExampleNoise(range(EXAMPLES)), SHAPE, config)
                row[f"kept of {deviation:g}"] = round(float(found.std()) / deviation, 3)
            rows.append(row)
            print(row, flush=True)
    write_result("sampler_spread", {"deviations": chosen.deviations, "examples": EXAMPLES}, {"samplers": rows})


if __name__ == "__main__":
    main()
