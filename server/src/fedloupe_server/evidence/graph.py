"""The frozen model as one ONNX graph: from a patient's values as measured to the calibrated probability.

    frozen = FrozenModel(study, columns, preparation, weights, line)
    content = to_onnx(frozen, {"study": study.fingerprint})       # model.onnx; frozen.inputs are its inputs

The graph does what `Preparation.apply`, `Cohort.inputs`, the model and the calibration line do, in their precision:
float64 up to the components and after the logit, float32 between. The same model gives the same bytes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloupe import __version__
from fedloupe.models import Preparation, Schema, build_model, group_order, unflatten
from fedloupe.models.preparation import CLIP
from fedloupe.study import Study, clinical_inputs

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

OPSET = 20
"""Of the ONNX operators; onnxruntime 1.17 and newer read it."""
OUTPUTS = ("probability", "logit")
DOUBLE = ("features", "clinical")
"""Inputs in float64; the others are float32."""


class FrozenModel(nn.Module):
    """The study's model between its raw inputs and its probability; see `forward`.

    Attributes:
        inputs: names of the inputs that this study's model has, in the order of `forward`'s arguments.
        model: the model with its weights, for evaluation.

    Args:
        study: any but a drawing study.
        columns: group of each of the p feature columns.
        preparation: of these columns.
        weights: (m) float32.
        line: (2) intercept and slope of the calibrated log-odds, or None.

    Raises:
        WrongSize: the weights are not this model's.
    """

    mean: Tensor
    scale: Tensor
    varies: Tensor
    projection: Tensor
    clinical_centre: Tensor
    clinical_scale: Tensor
    line: Tensor

    def __init__(
        self,
        study: Study,
        columns: tuple[str, ...],
        preparation: Preparation,
        weights: NDArray[np.float32],
        line: NDArray[np.float64] | None,
    ) -> None:
        super().__init__()
        groups, variables = group_order(columns), clinical_inputs(study)
        self.schema = Schema.of(study, groups)
        self.model = build_model(study, self.schema)
        unflatten(self.model, weights)
        for number, group in enumerate(groups):
            rows = torch.tensor([i for i, column in enumerate(columns) if column == group])
            self.register_buffer(f"rows_{number}", rows)
        scale = np.asarray(preparation.scale, dtype=np.float64)
        self._keep("mean", preparation.mean)
        self._keep("scale", np.where(scale > 0, scale, 1.0))
        self._keep("varies", (scale > 0).astype(np.float64))
        self._keep("projection", preparation.projection)
        self._keep("clinical_centre", [variable.centre for variable in variables])
        self._keep("clinical_scale", [variable.scale for variable in variables])
        self._keep("line", (0.0, 1.0) if line is None else line)
        self.inputs = tuple(name for name, there in self._has().items() if there)
        self.eval()

    def forward(
        self,
        features: Tensor,
        clinical: Tensor,
        mr: Tensor,
        mr_present: Tensor,
        ct: Tensor,
        ct_present: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Probability (n) and the model's own log-odds (n), before the line; both float64.

        Args:
            features: (n, p) float64 as measured, NaN where missing.
            clinical: (n, V) float64 in the study's units, NaN where missing.
            mr: (n, M, D, H, W) float32; what stands where a volume is missing plays no part.
            mr_present: (n, M) float32, 1 present, 0 missing.
            ct: (n, T, D, H, W), `ct_present` (n, T), likewise.
        """
        radiomics, present = self._components(features)
        known = torch.isfinite(clinical)
        scaled = (torch.where(known, clinical, self.clinical_centre) - self.clinical_centre) / self.clinical_scale
        tensors = (radiomics, present, scaled, known, _there(mr, mr_present), mr_present, _there(ct, ct_present))
        logit: Tensor = self.model(*(tensor.to(torch.float32) for tensor in (*tensors, ct_present))).double()
        return torch.sigmoid(self.line[0] + self.line[1] * logit), logit

    def _components(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(n, G, K) and (n, G), as `Preparation.apply` has them."""
        scores = (features - self.mean) / self.scale * self.varies
        scores = torch.where(torch.isnan(scores), torch.zeros_like(scores), scores).clamp(-CLIP, CLIP)
        known = torch.isfinite(features).double()
        if not self.schema.groups:
            return features.new_zeros((features.shape[0], 0, self.schema.components)), known
        parts, present = [], []
        for number in range(len(self.schema.groups)):
            rows = getattr(self, f"rows_{number}")
            parts.append(scores.index_select(1, rows) @ self.projection.index_select(0, rows))
            present.append(known.index_select(1, rows).amax(dim=1))
        there = torch.stack(present, dim=1)
        return torch.stack(parts, dim=1) * there.unsqueeze(-1), there

    def _has(self) -> dict[str, bool]:
        mr, ct = bool(self.schema.mr), bool(self.schema.ct)
        return {
            "features": bool(self.schema.groups),
            "clinical": bool(self.schema.clinical),
            "mr": mr,
            "mr_present": mr,
            "ct": ct,
            "ct_present": ct,
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each argument of `forward` for one patient, without the patients' axis."""
        edge = (self.schema.crop,) * 3
        mr, ct = self.schema.mr, self.schema.ct
        return {
            "features": (len(self.mean),),
            "clinical": (self.schema.clinical,),
            "mr": (mr, *edge),
            "mr_present": (mr,),
            "ct": (ct, *edge),
            "ct_present": (ct,),
        }

    def _keep(self, name: str, values: object) -> None:
        self.register_buffer(name, torch.from_numpy(np.array(values, dtype=np.float64)))


def to_onnx(frozen: FrozenModel, words: Mapping[str, str]) -> bytes:
    """The graph, weights inside: inputs `frozen.inputs`, outputs `OUTPUTS`, first axis of any length.

    Args:
        frozen: the model.
        words: kept as the graph's metadata.
    """
    import onnx

    given = tuple(
        torch.zeros((2, *frozen.shapes()[name]), dtype=torch.float64 if name in DOUBLE else torch.float32)
        for name in frozen.inputs
    )
    patients = torch.export.Dim("n")
    with _quiet():
        program = torch.export.export(_OnlyInputs(frozen), given, dynamic_shapes=(tuple({0: patients} for _ in given),))
        exported = torch.onnx.export(
            program.run_decompositions(_decompositions()),
            input_names=list(frozen.inputs),
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    assert exported is not None, "an exporter that is given no file returns its program"
    model = _plain(exported.model_proto)
    onnx.helper.set_model_props(model, dict(sorted(words.items())))
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


class _OnlyInputs(nn.Module):
    """A `FrozenModel` as a function of the inputs that its study has; the others are empty."""

    def __init__(self, frozen: FrozenModel) -> None:
        super().__init__()
        self.frozen = frozen

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        by_name = dict(zip(self.frozen.inputs, given, strict=True))
        patients = given[0].shape[0]
        for name, shape in self.frozen.shapes().items():
            if name not in by_name:
                by_name[name] = given[0].new_zeros((patients, *shape))
        result: tuple[Tensor, Tensor] = self.frozen(**by_name)
        return result


def _there(images: Tensor, present: Tensor) -> Tensor:
    return torch.where(present[:, :, None, None, None] > 0, images, torch.zeros_like(images))


def _decompositions() -> dict[Any, Callable[..., Tensor]]:
    """What ONNX has no operator for, or one that runtimes compute too coarsely, in operators that are exact."""
    aten = torch.ops.aten
    return {
        aten.adaptive_avg_pool3d.default: _pool,
        aten.group_norm.default: _group_norm,
        aten.view.default: _view,
    }


def _group_norm(
    images: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """Wu 2018, with the moments in float64: onnxruntime's own, in float32, are 1e-4 off the logit over a 64^3 crop."""
    patients, channels = images.shape[:2]
    values = images.double().reshape(patients, groups, -1)
    values = values - values.mean(-1, keepdim=True)
    values = values / torch.sqrt((values * values).mean(-1, keepdim=True) + eps)
    shape = (1, channels) + (1,) * (images.dim() - 2)
    return values.to(images.dtype).reshape(images.shape) * weight.reshape(shape) + bias.reshape(shape)


def _pool(maps: Tensor, parts: list[int]) -> Tensor:
    """Adaptive average pooling, (B, C, D, H, W) to (B, C, *parts): part i of P covers floor(iE/P) to ceil((i+1)E/P)."""
    for axis, count in zip((-3, -2, -1), parts, strict=True):
        edge = maps.shape[axis]
        bounds = [(i * edge // count, -(-(i + 1) * edge // count)) for i in range(count)]
        cut = [maps.narrow(axis, low, high - low).mean(axis, keepdim=True) for low, high in bounds]
        maps = torch.cat(cut, axis)
    return maps


def _view(values: Tensor, size: list[int]) -> Tensor:
    """Reshaping; of nothing into nothing, which ONNX's Reshape refuses beside an unknown axis, by making it anew."""
    if 0 in size[1:]:
        return values.new_zeros([values.shape[0], *size[1:]])
    seen: Tensor = torch.ops.aten._unsafe_view.default(values, size)
    return seen


def _plain(model: ModelProto) -> ModelProto:
    """Without what the exporter remembers of this machine and this process: source lines, paths, running numbers."""
    del model.metadata_props[:]
    model.producer_name, model.producer_version, model.doc_string = "FedLoupe", __version__, ""
    graph = model.graph
    graph.name, graph.doc_string = "model", ""
    del graph.metadata_props[:], graph.value_info[:]
    kept = {value.name for value in (*graph.input, *graph.output)}
    for value in (*graph.input, *graph.output):
        _forget(value)
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    names = {name: name for name in kept} | {"": ""}
    for tensor in graph.initializer:
        _forget(tensor)
        names[tensor.name] = tensor.name.removeprefix("frozen.")
        tensor.name = names[tensor.name]
    for number, node in enumerate(graph.node):
        _forget(node)
        node.name = f"{node.op_type}_{number}"
        for place, name in enumerate(node.output):
            names.setdefault(name, f"{node.name}_{place}")
    _rename(graph, names)
    return model


def _rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]


def _forget(part: Any) -> None:
    part.doc_string = ""
    del part.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells its user of parts that nobody asked for (torchvision), and warns of PyTorch's own code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
