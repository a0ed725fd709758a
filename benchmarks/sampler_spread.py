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
from vidaudio.generation import Diffusion, ExampleNoise, SamplerConfig, even_steps, sample

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


def best_network(process: Diffusion, deviation: float, config: SamplerConfig):
    """Return the network that predicts the expected noise, at steps and between them, and each step's true variance."""
    variances: dict[float, float] = {}
    if config.name == "ancestral":
        # Steps of a respaced process have variances of their own, which a network that knows all can tell.
        kept = even_steps(process.config.steps, config.steps)
        variances = true_variances(process.respaced(kept), deviation)

    def variance_share(time: Tensor) -> float:
        return min(variances.items(), key=lambda one: abs(one[0] - float(time)))[1] if variances else -1.0

    log_snr = 0.5 * (process.signal.log() - (-process.signal).log1p())

    def predict(noisy: Tensor, times: Tensor) -> Tensor:
        number = (times[0].double() * process.config.steps / 1000).clamp(0, process.steps - 1)
        below = int(number)
        above = min(below + 1, process.steps - 1)
        share = torch.sigmoid(2 * torch.lerp(log_snr[below], log_snr[above], number - below))
        amplitude, spread = share.sqrt(), (1 - share).sqrt()
        noise = spread * (noisy - amplitude * MEAN) / (share * deviation**2 + 1 - share)
        return torch.cat([noise, torch.full_like(noise, variance_share(times[0]))], dim=1)

    return predict


def true_variances(process: Diffusion, deviation: float) -> dict[float, float]:
    """Return the shares that a network learns of the variance of each step of a process, by the step's time.

    The variance of a step back is that of the mel before, given the noisy one: the posterior's, and what is not known
    of the clean mel. Its logarithm lies between the posterior's and beta's (Nichol and Dhariwal, eq. 15).
    """
    signal, before = process.signal, process.signal_before
    of_mel = process.betas * before.sqrt() / (1 - signal)
    unknown = deviation**2 * (1 - signal) / (signal * deviation**2 + 1 - signal)
    variance = process.posterior_variance + of_mel.square() * unknown
    least, most = process.least_log_variance, process.most_log_variance
    shares = (variance.log() - least) / (most - least).clamp_min(1e-12) * 2 - 1
    return dict(zip(process.times.tolist(), shares.clamp(-1, 1).tolist(), strict=True))


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
                predict = best_network(process, deviation, config)
                found = sample(process, predict, ExampleNoise(range(EXAMPLES)), SHAPE, config)
                row[f"kept of {deviation:g}"] = round(float(found.std()) / deviation, 3)
            rows.append(row)
            print(row, flush=True)
    write_result("sampler_spread", {"deviations": chosen.deviations, "examples": EXAMPLES}, {"samplers": rows})


if __name__ == "__main__":
    main()
