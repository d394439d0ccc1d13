"""What a run agreed on before it trains, kept at the site: its scaling and projection.

prepared = Prepared(home)
prepared.install(header, request)               # a PrepareReply
prepared.of(run)                                # the Preparation, also after a restart
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedloupe.errors import FedLoupeError
from fedloupe.messages import PrepareReply, PrepareRequest
from fedloupe.models import Preparation
from fedloupe_client.site.files import keep


class NotPrepared(FedLoupeError):
    """A request that needs the agreed scaling came before it."""

    code = "FL-604"
    title = "the run's preparation has not arrived at this site"


class Prepared:
    """The preparations of a site's runs.

    Args:
        home: the site's home folder.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._known: dict[str, Preparation] = {}

    def install(self, header: dict[str, Any], request: PrepareRequest) -> PrepareReply:
        """Keep what the coordinator sent; an earlier one of the run is replaced.

        Raises:
            RunFileUnwritable: see there.
        """
        preparation = Preparation(request.mean, request.scale, request.projection, request.origin)
        keep(self._path(request.run), preparation.to_bytes())
        self._known[request.run] = preparation
        return PrepareReply(**header, preparation=preparation.digest)

    def of(self, run: str) -> Preparation:
        """A run's preparation.

        Raises:
            NotPrepared: it never came.
        """
        if run not in self._known:
            found = Preparation.read(self._path(run))
            if found is None:
                raise NotPrepared("no preparation for this run", where=run, remedy="the coordinator must send it first")
            self._known[run] = found
        return self._known[run]

    def _path(self, run: str) -> Path:
        return self._home / "runs" / run / "preparation.safetensors"
