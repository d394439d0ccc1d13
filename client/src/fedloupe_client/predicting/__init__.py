"""One patient under a study's frozen model: a probability, or why there is none; research use only.

frozen = open_model(home, study)
predicted = predict_case(frozen, embed_cohort(frozen), find_case(frozen, "0123456789abcdef"))
page = write_prediction(frozen, predicted)              # home/predictions/<case>.html

Everything is read from the site's own disk and written there; nothing is sent.
"""

from fedloupe_client.predicting.inputs import FrozenModel, find_case, open_model
from fedloupe_client.predicting.neighbours import embed_cohort
from fedloupe_client.predicting.page import write_prediction
from fedloupe_client.predicting.result import Result
from fedloupe_client.predicting.single import Predicted, predict_case

__all__ = [
    "FrozenModel",
    "Predicted",
    "Result",
    "embed_cohort",
    "find_case",
    "open_model",
    "predict_case",
    "write_prediction",
]
