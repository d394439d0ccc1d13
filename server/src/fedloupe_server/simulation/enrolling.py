"""Hospitals and coordinator of a one-machine run know each other as in a real one: requests are signed, keys approved.

key = enrol_here(homes, folder)
exchange = inprocess_exchange(handlers, key=key)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedloupe.signing import Signer
from fedloupe_client.gate.trust import trust, trusted

NAME = "one-machine run"


def enrol_here(homes: Mapping[str, Path], folder: Path) -> Signer:
    """The run's coordinator key, which every home approves; made on first use.

    Args:
        homes: by site.
        folder: beside the run's, where the key is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "coordinator.key"
    key = Signer.load(path) if path.exists() else Signer.make(path)
    for home in homes.values():
        if key.public not in trusted(home):
            trust(home, NAME, key.public, by=NAME)
    return key
