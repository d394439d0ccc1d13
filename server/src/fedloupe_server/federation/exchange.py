"""How the round loop reaches hospitals: a function from requests to answers, blind to what carries them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Exchange(Protocol):
    """Sends each site its bytes and returns what came back in time; a silent site is simply absent."""

    def __call__(self, requests: Mapping[str, bytes], timeout_s: float) -> dict[str, bytes]:
        """Ask these sites at once.

        Args:
            requests: encoded message by site name.
            timeout_s: seconds to wait for the slowest.
        """
        ...
