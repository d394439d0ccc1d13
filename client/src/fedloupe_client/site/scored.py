"""Scores that the site worked out for an `evaluate`, kept at home so that models can be compared on the same patients.

scored = Scored(home)
scored.keep(request, probabilities)                    # before the answer to the evaluation leaves
scored.of(run, "federated", "test", patients=17)       # (n) probabilities, in the cohort's order of that split

On disk: `runs/<run>/scores/<split>.<label>.safetensors`; nothing of it ever leaves.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save

from fedloupe.errors import FedLoupeError
from fedloupe.messages import EvaluateRequest, Request
from fedloupe_client.dataset import Cohort
from fedloupe_client.site.files import keep, opened


class NotScored(FedLoupeError):
    """A model is to be judged or compared that this site did not score in this run."""

    code = "FL-668"
    title = "the model was not scored at this site in this run"


class Scored:
    """A site's scores by run, split and label.

    Args:
        home: the site's home folder.
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    def keep(self, request: EvaluateRequest, scores: NDArray[np.float64]) -> None:
        """Keep what a model gave; an earlier one of this label takes its leave.

        Raises:
            RunFileUnwritable: see there.
        """
        path = self._path(request.run, request.label, request.split)
        keep(path, save({"scores": scores}, metadata={"scored": request.rests_on}))

    def of(
        self, run: str, label: str, split: str, *, patients: int, rests_on: str | None = None
    ) -> NDArray[np.float64]:
        """(n) probabilities of the split's patients.

        Args:
            run, label, split: of the evaluation.
            patients: that the split has.
            rests_on: of the evaluation (`EvaluateRequest.rests_on`); None: whatever it was.

        Raises:
            NotScored: nothing was kept, or of another model or other patients.
            RunFileUnreadable: see there.
        """
        path = self._path(run, label, split)
        if path.exists():
            try:
                with opened(path) as file:
                    found, words = file.get_tensor("scores"), file.metadata() or {}
                if found.shape == (patients,) and rests_on in (None, words.get("scored")):
                    return np.asarray(found, dtype=np.float64)
            except SafetensorError:
                path.unlink()  # a crash left half of it; the coordinator has it scored again
        raise NotScored(
            f"no scores of `{label}` on split `{split}` that fit this request",
            where=run,
            remedy="the coordinator must send `evaluate` with this very model first: start the run again, it goes on",
        )

    def has(self, request: Request, cohort: Cohort) -> bool:
        """Whether the scores of this very evaluation are here; so is what any other request rests on.

        Without them its stored answer is not enough: it is worked on again.
        """
        if not isinstance(request, EvaluateRequest):
            return True
        try:
            patients = len(cohort.rows(request.split))
            self.of(request.run, request.label, request.split, patients=patients, rests_on=request.rests_on)
        except NotScored:
            return False
        return True

    def _path(self, run: str, label: str, split: str) -> Path:
        return self._home / "runs" / run / "scores" / f"{split}.{label}.safetensors"
