"""What a ServerApp is given beside its study: whose key signs, and where the table of nodes is.

write_job(work, Job(Path("FED/coordinator.key"), Path("FED/service/nodes.json")))
job = read_job(work)
job.signer(); job.table["north"]            # the table is read again when its file changes
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fedloupe.errors import FedLoupeError
from fedloupe.signing import Signer
from fedloupe_server.federation.journal import write_atomic
from fedloupe_server.hub.processes import alive, began

NAME = "job.json"


class JobInvalid(FedLoupeError):
    """The run-config names no usable job."""

    code = "FL-722"
    title = "the run's configuration is not usable"


@dataclass(frozen=True)
class Job:
    """See above.

    Attributes:
        key: file of the coordinator's private key.
        nodes: file with the node id of each site that can be reached.
        keeper: process id of who keeps the run, and when that process began: the ServerApp ends where it does. None: it
            goes on by itself.
        name: of the run on the wire; None where it is its folder's.
        sealed: folder of the sealed run that is to be validated.
    """

    key: Path
    nodes: Path
    keeper: tuple[int, float] | None = None
    name: str | None = None
    sealed: Path | None = None

    def kept_by(self, process: int) -> Job:
        """The same, kept by a process of this id; one that is no more keeps nothing."""
        return replace(self, keeper=(process, began(process) or 0.0))

    def signer(self) -> Signer:
        """The coordinator's key.

        Raises:
            KeyUnusable: see there.
        """
        return Signer.load(self.key)

    @property
    def kept(self) -> bool:
        """Whether who keeps the run is there: without it nobody would start another, or end this one."""
        return self.keeper is None or alive(*self.keeper)

    @property
    def table(self) -> NodeTable:
        """Node ids by site.

        Raises:
            JobInvalid: no table there.
        """
        return NodeTable(self.nodes)


class NodeTable(Mapping[str, int]):
    """Node ids by site, as the file has them now: a hospital that comes while a run goes on is found.

    Args:
        path: JSON, written whole.

    Raises:
        JobInvalid: absent, or not a mapping of names to integers.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._read_at = path, -1
        self._table: dict[str, int] = {}
        self._refresh()

    def __getitem__(self, site: str) -> int:
        self._refresh()
        return self._table[site]

    def __iter__(self) -> Iterator[str]:
        self._refresh()
        return iter(self._table)

    def __len__(self) -> int:
        self._refresh()
        return len(self._table)

    def _refresh(self) -> None:
        try:
            changed = self._path.stat().st_mtime_ns
            if changed == self._read_at:
                return
            table = json.loads(self._path.read_text(encoding="utf-8"))
            self._table, self._read_at = {str(site): int(node) for site, node in table.items()}, changed
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise JobInvalid(
                f"no table of nodes: {error}", where=str(self._path), remedy="start runs with `fedloupe`"
            ) from None


def write_job(work: Path, job: Job) -> None:
    """Write a job's file in a submission's folder."""
    content = {name: str(value) if isinstance(value, Path) else value for name, value in vars(job).items()}
    write_atomic(work / NAME, (json.dumps(content, indent=1) + "\n").encode())


def read_job(work: Path) -> Job:
    """Read a job's file.

    Raises:
        JobInvalid: absent, or not a job.
    """
    path = work / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        keeper = content.get("keeper")
        return Job(
            Path(content["key"]),
            Path(content["nodes"]),
            keeper and (int(keeper[0]), float(keeper[1])),
            None if content.get("name") is None else str(content["name"]),
            Path(content["sealed"]) if content.get("sealed") else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise JobInvalid(f"no job: {error}", where=str(path), remedy="start runs with `fedloupe`") from None
