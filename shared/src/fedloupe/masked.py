"""The messages of secure sums, in the order in which they are sent; part of `fedloupe.messages`.

n members, s sums that a set-up serves. Arrays of bytes are uint8.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fedloupe.record import Message, P, S, Tensor, says

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
Members = Annotated[tuple[Name, ...], Field(min_length=3, max_length=255)]
SIGNATURE = r"^[0-9a-f]{128}$"
Signature = Annotated[str, Field(pattern=SIGNATURE)]
Pem = Annotated[str, Field(max_length=16_384)]
SESSIONS = 64
"""Sums that one set-up serves."""


class _OfSetup(Message):
    setup: str = says(P, "name of the set-up, made for this run at random", pattern=r"^[0-9a-f]{32}$")


class _OfSum(_OfSetup):
    session: int = says(P, "number of the sum, from 0", ge=0, lt=SESSIONS)


class KeysRequest(_OfSetup):
    """Make keys for the sums to come."""

    kind: Literal["keys"] = "keys"


class KeysReply(_OfSetup):
    """The site's public keys; the private ones stay where they were made."""

    tensors: ClassVar[tuple[str, ...]] = ("channel", "masks")
    octets: ClassVar[tuple[str, ...]] = ("channel", "masks")
    kind: Literal["keys-reply"] = "keys-reply"
    channel: Tensor = says(P, "(32) uint8: X25519 public key, to seal shares for this site")
    masks: Tensor = says(P, "(s, 32) uint8: X25519 public keys of the pairwise masks, one a sum")
    certificate: str = says(P, "the site's certificate, PEM", max_length=16_384)
    signature: str = says(P, "of the site under both, Ed25519, hex", pattern=SIGNATURE)


class SharesRequest(_OfSetup):
    """Share each sum's secrets among the members."""

    tensors: ClassVar[tuple[str, ...]] = ("channels", "masks")
    octets: ClassVar[tuple[str, ...]] = ("channels", "masks")
    kind: Literal["shares"] = "shares"
    members: Members = says(P, "the sites that add up, sorted")
    channels: Tensor = says(P, "(n, 32) uint8: their keys for shares")
    masks: Tensor = says(P, "(n, s, 32) uint8: their keys of pairwise masks")
    certificates: tuple[Pem, ...] = says(P, "the members' certificates, as each sent its own")
    signatures: tuple[Signature, ...] = says(P, "the members' signatures, as each sent its own")


class SharesReply(_OfSetup):
    """Shares, each sealed for its member: the coordinator carries them and cannot read them."""

    tensors: ClassVar[tuple[str, ...]] = ("boxes",)
    octets: ClassVar[tuple[str, ...]] = ("boxes",)
    kind: Literal["shares-reply"] = "shares-reply"
    boxes: Tensor = says(P, "(n, s, 80) uint8: sealed shares for each member and sum; zeros for the site itself")


class SumRequest(_OfSum):
    """Answer this request as a term of a sum."""

    tensors: ClassVar[tuple[str, ...]] = ("inner",)
    octets: ClassVar[tuple[str, ...]] = ("inner",)
    kind: Literal["sum"] = "sum"
    inner: Tensor = says(P, "(bytes) uint8: the request whose answer is added")


class SumReply(_OfSum):
    """The answer under its masks: random numbers to whoever does not add all sites' and get the masks taken off."""

    tensors: ClassVar[tuple[str, ...]] = ("wide", "narrow")
    kind: Literal["sum-reply"] = "sum-reply"
    of: str = says(P, "kind of the answer", pattern=r"^[a-z]+-reply$")
    layout: dict[str, tuple[int, ...]] = says(P, "shape of each field of it that is filled")
    wide: Tensor = says(S, "(a, 6) int64: the answer's sums, masked, integers modulo 2^384")
    narrow: Tensor = says(S, "(b) int64: its counts and weights, masked, integers modulo 2^64")
    epsilon: float | None = says(P, "spent so far by this site, all runs together; None without DP", default=None)


class UnmaskRequest(_OfSum):
    """Give what takes off the masks of those who answered, and of those who did not."""

    tensors: ClassVar[tuple[str, ...]] = ("boxes",)
    octets: ClassVar[tuple[str, ...]] = ("boxes",)
    kind: Literal["unmask"] = "unmask"
    contributors: Members = says(P, "the members whose answers are added, sorted")
    boxes: Tensor = says(P, "(n, 80) uint8: what each member sealed for this site, for this sum")


class UnmaskReply(_OfSum):
    """This site's shares of one secret a member: which one follows from whether that member answered."""

    tensors: ClassVar[tuple[str, ...]] = ("shares",)
    octets: ClassVar[tuple[str, ...]] = ("shares",)
    kind: Literal["unmask-reply"] = "unmask-reply"
    shares: Tensor = says(P, "(n, 32) uint8: of a seed that serves one sum, or of a key that serves one sum")
