"""A site's secrets for many sums, the masks that follow from them, and how masks are taken off.

    mine = Secrets(root, setup="4f...", site="north")         # everything follows from 32 random bytes
    mine.channel, mine.masks(64)                              # public keys: one for shares, one a sum
    boxes = mine.boxes(members, channels, 64)                 # shares of each sum's secrets, sealed for each member
    masked = mine.mask(term, session, digest, members, keys)  # uniformly random to whoever lacks the secrets
    shares = mine.open(session, members, channels, boxes, contributors)
    total = unmask(added, ...)

Of each sum a member shares two secrets: the seed of its own mask, which is given out where it answered, and the key of
its pairwise masks, which is given out where it vanished; never both (Bonawitz 2017, section 4). Keys are used for
one sum, so what one sum gives away opens no other. Masks depend on the digest of what was asked: sites that were asked
different things get masks that do not cancel.

X25519 (RFC 7748), HKDF-SHA256 (RFC 5869), ChaCha20-Poly1305 (RFC 8439) and AES-256 in counter mode, of `cryptography`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from fedloupe.masking import shamir
from fedloupe.masking.vectors import RunningSum, Term, negated

Bytes = NDArray[np.uint8]
KEY = 32
"""Bytes of a key, a seed, a secret."""
SECRETS = 2
"""Secrets of a sum: the own mask's seed, then the key of the pairwise masks."""
BOX = SECRETS * KEY + 16
"""Bytes of a sealed pair of shares: with Poly1305's tag."""
LEAST = 3
"""Sites without which there is no sum: of two, each would know the other's term."""


def threshold_of(members: int) -> int:
    """Shares that take a mask off: more than half, so that no minority can, nor two halves apart."""
    return members // 2 + 1


def least_of(members: int) -> int:
    """Members who must have answered: with all but a half of them colluding, a sum still holds two others."""
    return max(LEAST, (members - 1) // 2 + 2)


def usable(public: Bytes) -> bool:
    """Whether an exchange with this public key gives a secret; a few weak ones give none."""
    try:
        _agreed(X25519PrivateKey.generate(), public.tobytes())
    except ValueError:
        return False
    return True


def _derive(secret: bytes, length: int, *about: str) -> bytes:
    return HKDF(SHA256(), length, salt=None, info="\x1f".join(("fedloupe secure sums", *about)).encode()).derive(secret)


def _stream(seed: bytes, length: int) -> bytes:
    """`length` bytes of AES-256 in counter mode from 0; a seed is used once."""
    return Cipher(algorithms.AES256(seed), modes.CTR(bytes(16))).encryptor().update(bytes(length))


def expand(seed: bytes, like: Term) -> Term:
    """A mask of a term's shape, uniform over both rings."""
    wide, narrow = like.wide.shape, like.narrow.shape
    size = 8 * int(np.prod(wide))
    stream = _stream(seed, size + 8 * int(np.prod(narrow)))
    return Term(
        np.frombuffer(stream[:size], dtype="<i8").astype(np.int64).reshape(wide),
        np.frombuffer(stream[size:], dtype="<i8").astype(np.int64).reshape(narrow),
    )


def _agreed(private: X25519PrivateKey, public: bytes) -> bytes:
    return private.exchange(X25519PublicKey.from_public_bytes(public))


def _pair_seed(key: bytes, public: bytes, setup: str, session: int, digest: str, pair: tuple[str, str]) -> bytes:
    agreed = _agreed(X25519PrivateKey.from_private_bytes(key), public)
    return _derive(agreed, KEY, "pair", setup, str(session), digest, *sorted(pair))


def _own_seed(seed: bytes, setup: str, session: int, digest: str, site: str) -> bytes:
    return _derive(seed, KEY, "own", setup, str(session), digest, site)


def _signed(mask: Term, site: str, other: str) -> Term:
    """Of a pair, the first in order adds the mask and the second takes it away."""
    return mask if site < other else negated(mask)


@dataclass(frozen=True)
class Secrets:
    """What one site keeps to itself for one set-up; the same root gives the same bytes, also after a restart.

    Attributes:
        root: 32 random bytes that never leave the site.
        setup: name of the set-up.
        site: whose.
    """

    root: bytes
    setup: str
    site: str

    @cached_property
    def _channel(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(_derive(self.root, KEY, "channel", self.setup))

    def _secrets(self, session: int) -> bytes:
        """The own mask's seed and the private key of the pairwise masks."""
        return _derive(self.root, SECRETS * KEY, "session", self.setup, str(session))

    @property
    def channel(self) -> Bytes:
        """(32) public key by which others seal shares for this site."""
        return np.frombuffer(self._channel.public_key().public_bytes_raw(), dtype=np.uint8)

    def masks(self, sessions: int) -> Bytes:
        """(sessions, 32) public keys of the pairwise masks, one a sum."""
        keys = (X25519PrivateKey.from_private_bytes(self._secrets(s)[KEY:]).public_key() for s in range(sessions))
        return np.frombuffer(b"".join(key.public_bytes_raw() for key in keys), dtype=np.uint8).reshape(-1, KEY)

    def boxes(self, members: Sequence[str], channels: Bytes, sessions: int) -> Bytes:
        """(members, sessions, 80) shares of both secrets of each sum, sealed for each member; zeros for the site.

        Args:
            members: in order.
            channels: (members, 32) their public keys.
            sessions: sums that are prepared.
        """
        shares = np.stack([self._split(session, members) for session in range(sessions)], axis=1)
        sealed = np.zeros((len(members), sessions, BOX), dtype=np.uint8)
        for place, member in enumerate(members):
            if member == self.site:
                continue
            box = self._box(self.site, member, channels[place].tobytes())
            for session in range(sessions):
                text = box.encrypt(_nonce(session), shares[place, session].tobytes(), None)
                sealed[place, session] = np.frombuffer(text, dtype=np.uint8)
        return sealed

    def _split(self, session: int, members: Sequence[str]) -> Bytes:
        """(members, 64) shares of both secrets of a sum, one a member."""
        needed, secret = threshold_of(len(members)), np.frombuffer(self._secrets(session), dtype=np.uint8)
        seed = _derive(self.root, KEY, "shares", self.setup, str(session), *members)
        chance = np.frombuffer(_stream(seed, (needed - 1) * secret.size), dtype=np.uint8)
        return shamir.split(secret, len(members), needed, chance.reshape(needed - 1, secret.size))

    def _box(self, sender: str, receiver: str, channel: bytes) -> ChaCha20Poly1305:
        """One key a direction, so a sum's number is a nonce of its own."""
        return ChaCha20Poly1305(_derive(_agreed(self._channel, channel), KEY, "box", self.setup, sender, receiver))

    def mask(self, term: Term, session: int, digest: str, members: Sequence[str], keys: Bytes) -> Term:
        """The term under its masks.

        Args:
            term: the site's.
            session: number of the sum.
            digest: of what was asked, the same at every site.
            members: in order, this site among them.
            keys: (members, 32) their public keys of this sum's pairwise masks.
        """
        secrets = self._secrets(session)
        running = RunningSum()
        running.add(term)
        running.add(expand(_own_seed(secrets[:KEY], self.setup, session, digest, self.site), term))
        for place, member in enumerate(members):
            if member != self.site:
                pair = (self.site, member)
                seed = _pair_seed(secrets[KEY:], keys[place].tobytes(), self.setup, session, digest, pair)
                running.add(_signed(expand(seed, term), *pair))
        return running.total

    def open(
        self, session: int, members: Sequence[str], channels: Bytes, boxes: Bytes, contributors: Sequence[str]
    ) -> Bytes:
        """(members, 32) this site's shares: of the own mask's seed of who answered, of the pairwise key of who did not.

        Its own row holds its own share of its own secret.

        Args:
            session: number of the sum.
            members: in order.
            channels: (members, 32) their public keys.
            boxes: (members, 80) what each member sealed for this site; the own row is not read.
            contributors: members who answered.

        Raises:
            ValueError: a box was not sealed by that member for this site and sum; naming the member.
        """
        found = np.zeros((len(members), KEY), dtype=np.uint8)
        for place, member in enumerate(members):
            if member == self.site:
                shares = self._split(session, members)[place].tobytes()
            else:
                try:
                    box = self._box(member, self.site, channels[place].tobytes())
                    shares = box.decrypt(_nonce(session), boxes[place].tobytes(), None)
                except InvalidTag:
                    raise ValueError(member) from None
            half = shares[:KEY] if member in contributors else shares[KEY:]
            found[place] = np.frombuffer(half, dtype=np.uint8)
        return found


def unmask(
    added: Term,
    setup: str,
    session: int,
    digest: str,
    members: Sequence[str],
    keys: Bytes,
    contributors: Sequence[str],
    opened: Mapping[str, Bytes],
) -> Term:
    """The sum of the contributors' terms from the sum of what they sent.

    Args:
        added: their masked terms, added.
        setup: name of the set-up.
        session: number of the sum.
        digest: of what was asked.
        members: of the set-up, in order.
        keys: (members, 32) public keys of this sum's pairwise masks.
        contributors: members who answered.
        opened: `Secrets.open` of at least a threshold of members, by member.

    Raises:
        ValueError: fewer than the threshold, or shares of a member that do not agree.
    """
    needed = threshold_of(len(members))
    if len(opened) < needed:
        raise ValueError(f"{len(opened)} of {len(members)} sites opened their shares")
    running = RunningSum()
    running.add(added)
    for place, member in enumerate(members):
        shares = [(members.index(holder), rows[place]) for holder, rows in sorted(opened.items())]
        secret, again = (shamir.join(dict(some)).tobytes() for some in (shares[:needed], shares[-needed:]))
        if secret != again:
            raise ValueError(f"the shares of {member} do not agree")
        if member in contributors:
            running.add(negated(expand(_own_seed(secret, setup, session, digest, member), added)))
            continue
        for other, key in zip(members, keys, strict=True):
            if other in contributors:
                pair = (other, member)
                seed = _pair_seed(secret, key.tobytes(), setup, session, digest, pair)
                running.add(negated(_signed(expand(seed, added), *pair)))
    return running.total


def _nonce(session: int) -> bytes:
    return session.to_bytes(12, "little")
