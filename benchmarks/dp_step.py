"""What differential privacy costs in a training step: processor time and memory against the same step without it.

    python benchmarks/dp_step.py [--batch 32]

The Transformer of configs/demo-large.yaml on random inputs, one thread, each measurement in a process of its own:
forward, backward and update by SGD; under DP each patient's gradient, clipping, noise from the operating system and the
update. "Frozen stem": its convolutions need no gradient. Memory is the process's peak beyond what it held before the
first step.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
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
STEPS, WARM = 30, 5


def step_costs(kind: str, private: bool, batch: int) -> tuple[float, float]:
    """Seconds of the processor a step (median), and MB beyond the start."""
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
    gradients = PerPatient(model) if private else None
    before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(STEPS):
        began = time.process_time()
        if gradients is not None:
            gradients.of(inputs, labels)
            noisy.step()
        else:
            plain.zero_grad()
            F.binary_cross_entropy_with_logits(model(*inputs.tensors), labels, reduction="mean").backward()
            plain.step()
        times.append(time.process_time() - began)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return statistics.median(times[WARM:]), (after - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--one", nargs=2, metavar=("KIND", "PRIVATE"), help="one measurement, as the others are made")
    arguments = parser.parse_args()
    if arguments.one:
        print(*step_costs(arguments.one[0], arguments.one[1] == "yes", arguments.batch))
        return
    print(
        "| model | ms without | ms with DP | time | MB without | MB with DP | memory |\n|---|---|---|---|---|---|---|"
    )
    for kind in KINDS:
        found = []
        for private in ("no", "yes"):
            command = [sys.executable, __file__, "--batch", str(arguments.batch), "--one", kind, private]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.append([float(word) for word in said.split()])
        (t0, m0), (t1, m1) = found
        row = (f"{1e3 * t0:.1f}", f"{1e3 * t1:.1f}", f"{t1 / t0:.2f} x", f"{m0:.0f}", f"{m1:.0f}", f"{m1 / m0:.2f} x")
        print(f"| {kind} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
