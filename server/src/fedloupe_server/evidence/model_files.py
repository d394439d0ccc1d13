"""The frozen model as files that a stranger can run: ONNX, safetensors, what goes in, and an example to check by.

    digests = write_model(pack / "model", study, features=names, columns=groups, preparation=fitted.preparation,
                          weights=fitted.weights, line=None, threshold=0.4, frozen=digest, synthetic=True)

model/
  README.md           what every input is, and how it is made
  model.onnx          from values as measured to the probability (`fedloupe_server.evidence.graph`)
  model.safetensors   weights by name, preparation, line, threshold
  inputs.json         names, order, shapes and types
  example.py          runs model.onnx on example.npz (made up) and compares with what PyTorch gave
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from safetensors.numpy import save
from scipy.special import expit

from fedloupe.errors import FedLoupeError
from fedloupe.models import Inputs, Preparation, group_order
from fedloupe.models.preparation import CLIP
from fedloupe.study import Study, clinical_inputs
from fedloupe_server.evidence.graph import DOUBLE, OPSET, OUTPUTS, FrozenModel, to_onnx
from fedloupe_server.evidence.wording import RESEARCH_ONLY

IS = {
    "features": "radiomics features as measured, NaN where missing",
    "clinical": "clinical values in the study's units, NaN where missing",
    "mr": "MR crops",
    "mr_present": "1 where the MR volume is there, 0 where it is missing",
    "ct": "CT crops",
    "ct_present": "1 where the CT volume is there, 0 where it is missing",
}
VALUE = {
    "zscore": "standard deviations from the mean of the body",
    "physical": "(x - 1000) / 500, x in the unit of the image (ADC: 1e-6 mm2/s)",
    "hounsfield": "x / 100, x in HU clipped to [-200, 300]",
}
PATIENTS = 3
"""Of the example; the last one has much missing."""


class ModelUnwritable(FedLoupeError):
    """The folder of the model's files cannot be written."""

    code = "FL-822"
    title = "files of the model cannot be written"


class ModelMisfit(FedLoupeError):
    """Study, features and preparation do not make one model, or the study trains a drawing model."""

    code = "FL-823"
    title = "the model's parts do not belong together"


def write_model(
    folder: Path,
    study: Study,
    *,
    features: tuple[str, ...],
    columns: tuple[str, ...],
    preparation: Preparation,
    weights: NDArray[np.float32],
    line: NDArray[np.float64] | None,
    threshold: float,
    frozen: str,
    synthetic: bool,
) -> dict[str, str]:
    """Write the files, each whole or not at all; the same model gives the same bytes.

    Args:
        folder: made where absent.
        study: any but a drawing study.
        features: names of the p feature columns that the model sees.
        columns: their groups.
        preparation: of these columns.
        weights: (m) float32.
        line: (2) intercept and slope of the calibrated log-odds, or None.
        threshold: on the probability, the calibrated one where there is a line.
        frozen: digest of what was frozen.
        synthetic: whether the patients behind the model were generated.

    Returns:
        SHA-256 of each file, by name.

    Raises:
        ModelMisfit, ModelUnwritable: see there.
        WrongSize: the weights are not this study's model.
    """
    _check(study, features, columns, preparation, line)
    model = FrozenModel(study, columns, preparation, weights, line)
    words = {
        "study": study.fingerprint,
        "frozen": frozen,
        "endpoint": study.endpoint.name,
        "use": RESEARCH_ONLY,
        "synthetic": synthetic,
        "threshold": threshold,
        "calibrated": line is not None,
        "harmonised": study.harmonisation is not None,
    }
    description = {**words, **_description(study, features, columns, model)}
    contents = {
        "model.onnx": to_onnx(model, {"fedloupe": _json(words)}),
        "model.safetensors": _tensors(model, preparation, line, threshold, description),
        "inputs.json": (json.dumps(description, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        "example.npz": _example(study, columns, preparation, model),
        "example.py": _template("example.py").encode(),
        "README.md": _readme(study, model, description, line).encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            part = folder / f".{name}.part"
            part.write_bytes(content)
            os.replace(part, folder / name)
    except OSError as error:
        raise ModelUnwritable(
            f"writing failed: {error.strerror or error}",
            where=str(folder),
            remedy="check that the folder may be written and the disk has room, then write the report again",
        ) from None
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def _check(
    study: Study,
    features: tuple[str, ...],
    columns: tuple[str, ...],
    preparation: Preparation,
    line: NDArray[np.float64] | None,
) -> None:
    p = len(columns)
    reasons = {
        "a drawing study trains no model of an endpoint": study.segmentation is not None,
        f"{len(features)} features have {p} groups": len(features) != p,
        f"the preparation is not of {p} features and {study.model.components} components": (
            preparation.mean.shape != (p,)
            or preparation.scale.shape != (p,)
            or preparation.projection.shape != (p, study.model.components)
        ),
        "a calibration line has two numbers": line is not None and np.shape(line) != (2,),
    }
    for reason, holds in reasons.items():
        if holds:
            raise ModelMisfit(reason, where=study.study, remedy="take all parts from one run's folder")


def _json(content: Any) -> str:
    return json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _description(
    study: Study, features: tuple[str, ...], columns: tuple[str, ...], model: FrozenModel
) -> dict[str, Any]:
    """What `inputs.json` says beside `words`: shapes and types, and what stands in each column."""
    shapes = model.shapes()
    volumes = _volumes(study, model)
    found: dict[str, Any] = {
        "inputs": [
            {
                "name": name,
                "shape": ["n", *shapes[name]],
                "type": "float64" if name in DOUBLE else "float32",
                "is": IS[name],
            }
            for name in model.inputs
        ],
        "outputs": [{"name": name, "shape": ["n"], "type": "float64"} for name in OUTPUTS],
    }
    if "features" in model.inputs:
        found["features"] = [{"name": n, "group": g} for n, g in zip(features, columns, strict=True)]
        found["radiomics"] = study.radiomics.model_dump(mode="json")
    if "clinical" in model.inputs:
        found["clinical"] = [variable.model_dump(mode="json") for variable in clinical_inputs(study)]
    if volumes:
        found["volumes"] = volumes
        found["imaging"] = study.imaging.model_dump(mode="json")
    return found


def _volumes(study: Study, model: FrozenModel) -> list[dict[str, Any]]:
    """The channels of `mr` and `ct` that the model sees, in order."""
    found = []
    for name, modality in (("mr", "MR"), ("ct", "CT")):
        seen = [s for s in study.sequences if s.modality == modality] if name in model.inputs else []
        for channel, sequence in enumerate(seen):
            found.append(
                {
                    "input": name,
                    "channel": channel,
                    "name": sequence.name,
                    "required": sequence.required,
                    "value": VALUE[sequence.intensity],
                }
            )
    return found


def _tensors(
    model: FrozenModel,
    preparation: Preparation,
    line: NDArray[np.float64] | None,
    threshold: float,
    description: dict[str, Any],
) -> bytes:
    arrays = {f"weight.{name}": p.detach().numpy() for name, p in model.model.named_parameters()}
    if "features" in model.inputs:
        parts = {"mean": preparation.mean, "scale": preparation.scale, "projection": preparation.projection}
        arrays |= {f"preparation.{name}": array for name, array in parts.items()}
    arrays |= {} if line is None else {"line": np.asarray(line, dtype=np.float64)}
    arrays["threshold"] = np.array([threshold])
    # One key: safetensors writes several in an order that changes from process to process.
    return save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, metadata={"fedloupe": _json(description)})


def _example(study: Study, columns: tuple[str, ...], preparation: Preparation, model: FrozenModel) -> bytes:
    """Made-up patients, and what Python's own path says of them: `Preparation.apply`, the model, the line."""
    rng = np.random.default_rng(0)
    patients = {name: np.zeros((PATIENTS, *shape)) for name, shape in model.shapes().items()}
    scores = rng.normal(size=patients["features"].shape).clip(-2, 2)
    patients["features"] = preparation.mean + scores * preparation.scale
    variables = clinical_inputs(study)
    centre, scale = (np.array([getattr(v, name) for v in variables]) for name in ("centre", "scale"))
    patients["clinical"] = centre + np.rint(rng.normal(size=patients["clinical"].shape)) * scale
    for name in ("mr", "ct"):
        patients[name], patients[f"{name}_present"] = _crops(patients[name].shape)
    required = {name: [s.required for s in study.sequences if s.modality == name.upper()] for name in ("mr", "ct")}
    for name in (name for name in ("mr", "ct") if name in model.inputs):
        patients[f"{name}_present"][-1] = required[name]
        patients[name][-1] *= patients[f"{name}_present"][-1][:, None, None, None]
    patients["features"][1, ::3] = np.nan
    if columns:
        patients["features"][-1, [group == columns[-1] for group in columns]] = np.nan
    patients["clinical"][-1, :1] = np.nan
    logit = _logit(columns, preparation, model, patients, (patients["clinical"] - centre) / scale)
    intercept, slope = (float(number) for number in model.line)
    arrays: dict[str, Any] = {
        name: patients[name].astype(np.float64 if name in DOUBLE else np.float32, copy=False) for name in model.inputs
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, probability=expit(intercept + slope * logit), logit=logit)
    return buffer.getvalue()


def _crops(shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(n, M, D, H, W) a smooth bump in each volume, in steps of 1/16, so that the file stays small; all present."""
    patients, volumes, edge = shape[:3]
    place = (np.arange(edge) + 0.5) / max(edge, 1) - 0.5
    distance = place[:, None, None] ** 2 + place[None, :, None] ** 2 + place[None, None, :] ** 2
    found = np.zeros(shape)
    for patient in range(patients):
        for volume in range(volumes):
            found[patient, volume] = (1 + 0.5 * volume) * np.exp(-distance * (8 + 4 * patient)) - 0.5
    return np.rint(found * 16) / 16, np.ones(shape[:2])


def _logit(
    columns: tuple[str, ...],
    preparation: Preparation,
    model: FrozenModel,
    patients: dict[str, NDArray[Any]],
    clinical: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(n) as a site computes it."""
    components, present = preparation.apply(patients["features"], columns)
    images = (patients[name] for name in ("mr", "mr_present", "ct", "ct_present"))
    arrays = (components, present, np.nan_to_num(clinical), np.isfinite(clinical), *images)
    inputs = Inputs(*(torch.from_numpy(np.asarray(array, dtype=np.float32)) for array in arrays))
    with torch.no_grad():
        return np.asarray(model.model(*inputs.tensors).numpy(), dtype=np.float64)


def _template(name: str) -> str:
    environment = Environment(loader=PackageLoader("fedloupe_server.evidence", "templates/model"), autoescape=False)
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _readme(study: Study, model: FrozenModel, description: dict[str, Any], line: NDArray[np.float64] | None) -> str:
    # Markdown: there is nothing to escape, and names of a study hold no markup.
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(_template("README.md")).render(
        study=study,
        research_only=RESEARCH_ONLY,
        synthetic=description["synthetic"],
        frozen=description["frozen"],
        parameters=f"{sum(p.numel() for p in model.model.parameters()):,}",
        opset=OPSET,
        clip=f"{CLIP:g}",
        inputs=description["inputs"],
        features=len(description.get("features", ())),
        groups=group_order(tuple(f["group"] for f in description.get("features", ()))),
        clinical=description.get("clinical", ()),
        volumes=description.get("volumes", ()),
        ct="ct" in model.inputs,
        edge=model.schema.crop,
        calibrated=line is not None,
        line=None if line is None else [float(number) for number in line],
        threshold=description["threshold"],
        patients=PATIENTS,
    )
