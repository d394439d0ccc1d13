"""What differential privacy costs in a training step: processor time and memory against the same step without it.

    python benchmarks/dp_step.py [--batch 32]

The Transformer of configs/demo-large.yaml on random inputs, one thread: forward, backward and update by SGD; under DP
each patient's gradient, clipping, noise from the operating system and the update. "Frozen stem": its convolutions and
their norms need no gradient. Times are medians of steps of both kinds in turn, in one process, so that other work on
the machine slows both. Memory is the peak of a process of its own beyond what it held before the first step.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

from fedloupe.models import Inputs, Schema, build_model
from fedloupe.privacy import SecureNoise
from fedloupe.study import load_study, parse_study
from fedloupe_client.training.per_patient import PerPatient
from fedloupe_client.training.private import NoisySgd

CONFIG = Path(__file__).parents[1] / "configs" / "demo-large.yaml"
GROUPS = ("shape", "t2w", "adc", "dce_pre", "dce_peak", "dce_late")
KINDS = ("radiomics", "frozen stem", "trained stem")
STEPS, WARM = 100, 10


def steps(kind: str, batch: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """A step without DP and one with it, of the same model."""
    torch.set_num_threads(1)
    content = load_study(CONFIG).model_dump(mode="json")
    content["model"]["image"] = kind != "radiomics"
    study = parse_study(content)
    schema = Schema.of(study, GROUPS)
    torch.manual_seed(1)
    model = build_model(study, schema).train()
    if kind == "frozen stem":
        for layer in model.modules():
            if isinstance(layer, torch.nn.Conv3d | torch.nn.GroupNorm):
                layer.requires_grad_(False)
    edge = (schema.crop,) * 3
    features, clinical = torch.randn(batch, len(GROUPS), schema.components), torch.randn(batch, schema.clinical)
    images = (torch.randn(batch, schema.mr, *edge), torch.ones(batch, schema.mr))
    none = (torch.zeros(batch, 0, *edge), torch.ones(batch, 0))
    inputs = Inputs(features, torch.ones(batch, len(GROUPS)), clinical, torch.ones_like(clinical), *images, *none)
    labels = (torch.rand(batch) < 0.5).float()
    trained = [p for p in model.parameters() if p.requires_grad]
    plain = torch.optim.SGD(trained, lr=0.1)
    noisy = NoisySgd(trained, 0.1, noise=1.0, clip=1.0, expected=batch, source=SecureNoise())
    gradients = PerPatient(model)

    def without() -> None:
        plain.zero_grad()
        F.binary_cross_entropy_with_logits(model(*inputs.tensors), labels, reduction="mean").backward()
        plain.step()

    def private() -> None:
        gradients.of(inputs, labels)
        noisy.step()

    return without, private


def seconds(kind: str, batch: int) -> tuple[float, float]:
    """Seconds of the processor a step without and with DP (medians)."""
    times: tuple[list[float], list[float]] = ([], [])
    both = steps(kind, batch)
    for _ in range(STEPS):
        for step, found in zip(both, times, strict=True):
            began = time.process_time()
            step()
            found.append(time.process_time() - began)
    return statistics.median(times[0][WARM:]), statistics.median(times[1][WARM:])


def megabytes(kind: str, private: bool, batch: int) -> float:
    """MB beyond the start."""
    step = steps(kind, batch)[private]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(WARM):
        step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--one", nargs=2, metavar=("KIND", "WHAT"), help="one measurement, as the others are made")
    arguments = parser.parse_args()
    if arguments.one:
        kind, what = arguments.one
        print(*seconds(kind, arguments.batch) if what == "time" else [megabytes(kind, what == "yes", arguments.batch)])
        return
    print(
        "| model | ms without | ms with DP | time | MB without | MB with DP | memory |\n|---|---|---|---|---|---|---|"
    )
    for kind in KINDS:
        found: list[float] = []
        for what in ("time", "no", "yes"):
            command = [sys.executable, __file__, "--batch", str(arguments.batch), "--one", kind, what]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found += [float(word) for word in said.split()]
        t0, t1, m0, m1 = found
        row = (f"{1e3 * t0:.1f}", f"{1e3 * t1:.1f}", f"{t1 / t0:.2f} x", f"{m0:.0f}", f"{m1:.0f}", f"{m1 / m0:.2f} x")
        print(f"| {kind} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
