"""Run model.onnx on the made-up patients of example.npz and compare with the probabilities stored there.

    python -m pip install numpy onnxruntime
    python example.py                     # exit status 1 where a probability differs

Research use only, not a medical device. The patients are synthetic: they show how to call the model, nothing more.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
LARGEST = 1e-5
"""How far a probability may be from the stored one: the graph computes in float32."""


def main() -> int:
    """0 where every probability is the stored one."""
    session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    with np.load(HERE / "example.npz") as stored:
        patients = {given.name: stored[given.name] for given in session.get_inputs()}
        expected = stored["probability"]
    (found,) = session.run(["probability"], patients)
    threshold = json.loads((HERE / "inputs.json").read_text(encoding="utf-8"))["threshold"]
    for number, (probability, wanted) in enumerate(zip(found, expected, strict=True), start=1):
        side = "at or above" if probability >= threshold else "below"
        print(f"synthetic patient {number}: {probability:.6f} ({side} the threshold), stored {wanted:.6f}")
    largest = float(np.abs(found - expected).max())
    agrees = largest <= LARGEST
    print(f"largest difference {largest:.1e}: {'agrees' if agrees else f'DIFFERS, more than {LARGEST:g}'}")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
