"""The reply of a site that still works on a request; part of `fedloupe.messages`."""

from __future__ import annotations

from typing import Literal

from fedloupe.record import Message, P, says


class Working(Message):
    """The site is at work: whoever asks again with the same request gets the answer as soon as it is there."""

    kind: Literal["working"] = "working"
    stage: str = says(P, "what it does, in a word: training, features, waiting", pattern=r"^[a-z]{1,20}$")
    fraction: float | None = says(
        P, "share of the stage's planned steps that is done, in hundredths", ge=0, le=1, default=None
    )
    seconds: float | None = says(P, "expected until the answer is there", ge=0, default=None)
