"""What imaging refuses, each with its own code; `what` holds no identifier.

raise TumourOutside("`adc` covers 40 % of the tumour", where=record.case, remedy="leave the sequence out")
"""

from __future__ import annotations

from fedloupe_client.ingest.problems import DataProblem


class TumourOutside(DataProblem):
    """A required sequence does not cover the tumour."""

    code = "FL-301"
    title = "sequence does not cover the tumour"
    kind = "degenerate"


class ImageFlat(DataProblem):
    """A required sequence has no contrast to normalise by."""

    code = "FL-302"
    title = "image has no contrast"
    kind = "degenerate"


class RegistrationRefused(DataProblem):
    """A required CT could not be registered onto the MRI with enough confidence."""

    code = "FL-303"
    title = "registration failed its quality gate"
    kind = "degenerate"
