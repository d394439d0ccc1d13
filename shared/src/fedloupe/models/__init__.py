"""The models that a study can name, and how their parameters cross the wire.

schema = Schema.of(study, groups=("shape", "t2w"))
model = build_model(study, schema)            # same study and schema, same initial parameters everywhere
vector = flatten(model)                       # (m) float32, what a round carries
"""

from fedloupe.models.base import RadiomicsModel, range_vector
from fedloupe.models.build import build_model, start_at_logistic
from fedloupe.models.cnn import RadiomicsCnn
from fedloupe.models.flat import digest, flatten, unflatten
from fedloupe.models.gcn import RadiomicsGcn
from fedloupe.models.inputs import Inputs, Schema
from fedloupe.models.intercepts import logistic_terms, own_intercept
from fedloupe.models.linear import RadiomicsLogistic
from fedloupe.models.logistic import design_matrix, logistic_probability
from fedloupe.models.norms import norm_positions
from fedloupe.models.penalised import ASKS, Descent, Penalty
from fedloupe.models.preparation import Preparation, group_order, standardise
from fedloupe.models.transformer import RadiomicsTransformer
from fedloupe.models.trees import (
    Limits,
    Trees,
    TreesInvalid,
    between_grid,
    check_trees,
    count_trees,
    join,
    leaves,
    logits,
    no_trees,
    on_grid,
)
from fedloupe.models.unet import build_unet, dice, drawing_loss, unet

__all__ = [
    "ASKS",
    "Descent",
    "Inputs",
    "Limits",
    "Penalty",
    "Preparation",
    "RadiomicsCnn",
    "RadiomicsGcn",
    "RadiomicsLogistic",
    "RadiomicsModel",
    "RadiomicsTransformer",
    "Schema",
    "Trees",
    "TreesInvalid",
    "between_grid",
    "build_model",
    "build_unet",
    "check_trees",
    "count_trees",
    "design_matrix",
    "dice",
    "digest",
    "drawing_loss",
    "flatten",
    "group_order",
    "join",
    "leaves",
    "logistic_probability",
    "logistic_terms",
    "logits",
    "no_trees",
    "norm_positions",
    "on_grid",
    "own_intercept",
    "range_vector",
    "standardise",
    "start_at_logistic",
    "unet",
    "unflatten",
]
