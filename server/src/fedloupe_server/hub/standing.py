"""How a run stands by what is in its folder, whatever became of the processes that wrote it.

is_complete(study, Path("FED/run"))             # its last file is there: nobody need be asked anything
steps(Path("FED/run"))                          # more of them with each step
"""

from __future__ import annotations

import json
from pathlib import Path

from fedloupe.drawing import CARD
from fedloupe.errors import FedLoupeError
from fedloupe.study import Study
from fedloupe_server.federation.drawing import FOLDER
from fedloupe_server.federation.state import FILE
from fedloupe_server.hub.app import Unforeseen
from fedloupe_server.pack import FOLDER as PACK
from fedloupe_server.pack import SUMS, write_pack


def is_complete(study: Study, run: Path) -> bool:
    """Whether the run of this very study has all that it asks hospitals for; writes its pack where that is missing.

    The last file that a run writes is the one thing that says so: a process may be killed between it and whatever else
    could tell.

    Args:
        study: of the federation now; what another one left in the folder says nothing.
        run: its folder.

    Raises:
        ReportUnwritable, ResultsUnreadable, ResultsInvalid, Unforeseen: of the pack.
    """
    if study.segmentation is not None:
        return _fingerprint(run / FOLDER / CARD) == study.fingerprint
    if _fingerprint(run / "results.json") != study.fingerprint:
        return False
    if not (run / PACK / SUMS).exists():
        try:
            write_pack(run)
        except FedLoupeError:
            raise
        except Exception as error:  # a fault of the page must not end the service
            raise Unforeseen(repr(error), where=str(run), remedy="`fedloupe report` shows where it fails") from error
    return True


def steps(run: Path) -> int:
    """How many files a run's steps have left: models, records, sums, fits; not those that each start writes."""
    begun = {run / "study.json", run / FILE}
    return sum(path.suffix in (".json", ".safetensors") and path not in begun for path in run.rglob("*"))


def _fingerprint(path: Path) -> str | None:
    """Of the study that a run's last file is of; None where there is no such file, or only a damaged one."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content.get("fingerprint") if isinstance(content, dict) else None
