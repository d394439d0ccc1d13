"""What can keep a single patient's prediction from being made, each with its own code."""

from __future__ import annotations

from fedloupe.errors import FedLoupeError


class NoRelease(FedLoupeError):
    """The study has no frozen model at this site yet."""

    code = "FL-650"
    title = "the study has no released model here yet"


class ReleaseOther(FedLoupeError):
    """The released model belongs to another version of the study."""

    code = "FL-651"
    title = "the released model is of another study"


class CaseUnknown(FedLoupeError):
    """Neither a pseudonym nor a local name of this site's cases."""

    code = "FL-652"
    title = "the site's store has no such case"


class CaseUnusable(FedLoupeError):
    """The case is known and has nothing that a model could read."""

    code = "FL-653"
    title = "the case cannot be predicted"


class BatchUnharmonised(FedLoupeError):
    """The study harmonises scanners, and this case's was not there, or the site's own shifts are not."""

    code = "FL-654"
    title = "the case's scanner was not harmonised in the run"


class ReleaseMisfit(FedLoupeError):
    """The released arrays do not fit this site's features or the study's model."""

    code = "FL-655"
    title = "the released model does not fit the site's features"


class NotPredicting(FedLoupeError):
    """The study does not give probabilities for single patients."""

    code = "FL-656"
    title = "the study has no section `prediction`"


class PredictionUnwritable(FedLoupeError):
    """The page's folder or file cannot be written."""

    code = "FL-657"
    title = "the page of a prediction cannot be written"
