"""What a message is: one frozen record, each field with its meaning and its disclosure class."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


class Disclosure(StrEnum):
    """What a field can tell about patients."""

    PROTOCOL = "protocol"  # nothing: names, versions, digests, rounds
    COUNT = "count"  # how many patients
    AGGREGATE = "aggregate"  # sums and statistics over patients
    MODEL = "model"  # parameters trained on patients
    MASKED = "masked"  # random to whoever lacks the other sites' shares; of all sites together, their sum


def says(disclosure: Disclosure, meaning: str, **rules: Any) -> Any:
    """A field of a message."""
    return Field(description=meaning, json_schema_extra={"disclosure": disclosure.value}, **rules)


P, C, A, M = Disclosure.PROTOCOL, Disclosure.COUNT, Disclosure.AGGREGATE, Disclosure.MODEL
S = Disclosure.MASKED
Tensor = Annotated[Any, "ndarray"]


class Message(BaseModel):
    """Common header. `run` may carry a fold, as in `2026-11-23-demo/without-north`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    tensors: ClassVar[tuple[str, ...]] = ()
    octets: ClassVar[tuple[str, ...]] = ()  # tensors that are bytes (uint8); all others are numbers

    version: str = says(P, "FedLoupe's version at the sender", max_length=20)
    fingerprint: str = says(P, "fingerprint of the study", pattern=r"^[0-9a-f]{64}$")
    run: str = says(P, "name of the run", pattern=r"^[a-z0-9][a-z0-9_/-]{0,119}$")
    site: str = says(P, "the hospital addressed or answering", pattern=r"^[a-z][a-z0-9_-]{0,39}$")
