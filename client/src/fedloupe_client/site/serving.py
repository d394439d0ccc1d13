"""One site process a home: two, on two sockets, would each keep its own idea of what is under way.

with serving(home):
    ...
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedloupe.errors import FedLoupeError
from fedloupe_client.gate.disk import gate_folder
from fedloupe_client.locks import held


class HomeServed(FedLoupeError):
    """A site process answers for this home already, perhaps on another socket."""

    code = "FL-667"
    title = "another site process serves this home"


@contextmanager
def serving(home: Path) -> Iterator[None]:
    """Be the home's only site process.

    Raises:
        HomeServed: naming the process that is.
    """
    path = gate_folder(home) / "site.lock"

    def taken(process: str) -> HomeServed:
        return HomeServed(
            "another site process serves this home",
            where=f"{path}, process {process}",
            remedy="leave it at that one; or stop it first (its service or container), then start again",
        )

    with held(path, taken):
        yield
