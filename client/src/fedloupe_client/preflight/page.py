"""The page that stays at the hospital: the verdict, what to fix with file and command, and every case's pictures.

path = write_page(seen, home, Path("study.yaml"))       # home/preflight/check.html, mode 0600
"""

from __future__ import annotations

import base64
import os
import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedloupe import __version__
from fedloupe_client.gate import StudyNotApproved
from fedloupe_client.preflight import baseline, measures, outliers
from fedloupe_client.preflight.check import CaseEntry, Preflight, Seen
from fedloupe_client.preflight.findings import AGAIN, Finding, PageUnwritable, Unusual
from fedloupe_client.preflight.local import LocalName, local_names, look_command, own_file
from fedloupe_client.preflight.pictures import Plane

FOLDER = "preflight"
NAMELESS = LocalName("", "")


@dataclass(frozen=True)
class Concerned:
    """A case under a finding, by the hospital's own name."""

    case: str
    local: str
    where: str
    look: str | None


@dataclass(frozen=True)
class Shown:
    """A finding with this site's paths in it."""

    finding: Finding
    cases: tuple[Concerned, ...]
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Card:
    """A case with its pictures."""

    entry: CaseEntry
    local: str
    where: str
    planes: tuple[Plane, ...]


def write_page(seen: Seen, home: Path, study_file: Path) -> Path:
    """Write `home/preflight/check.html` and `check.json`, readable by their owner only, each whole or not at all.

    The page holds local names; the JSON is `seen.result` and holds none.

    Returns:
        The path of the page.

    Raises:
        PageUnwritable: the folder or a file cannot be written.
    """
    folder = home / FOLDER
    text = render(seen, home, study_file, datetime.now().astimezone())
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        _write(folder / "check.json", seen.result.model_dump_json(indent=1) + "\n")
        return _write(folder / "check.html", text)
    except OSError as error:
        raise PageUnwritable(
            f"writing failed: {error.strerror or error}",
            where=str(folder),
            remedy="check that the home folder may be written and its disk has room",
        ) from None


def render(seen: Seen, home: Path, study_file: Path, when: datetime) -> str:
    """The page's HTML; the same input gives the same text."""
    names = local_names(home)
    environment = Environment(
        loader=PackageLoader("fedloupe_client.preflight"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = _size
    environment.filters["duration"] = duration
    environment.filters["data"] = lambda png: Markup("data:image/png;base64,") + base64.b64encode(png).decode()
    style = environment.loader.get_source(environment, "check.css")[0] if environment.loader else ""
    shown = [_shown(finding, seen, names, home, study_file) for finding in seen.result.findings]
    return environment.get_template("check.html").render(
        style=Markup(style),
        result=seen.result,
        fixes=[one for one in shown if one.finding.severity == "fix"],
        others=[one for one in shown if one.finding.severity != "fix" and not _said_on_top(one.finding, seen.result)],
        cards=[_card(entry, seen, names) for entry in seen.result.cases],
        pictured=any(look.planes for look in seen.looks.values()),
        verdict=verdict(seen.result),
        again=[_here(command, home, study_file) for command in AGAIN],
        approve=_here("fedloupe-site approve HOME STUDY", home, study_file) + ' --by "NAME"',
        rule=outliers.RULE if any(finding.code == Unusual.code for finding in seen.result.findings) else "",
        snr=measures.SNR,
        honesty=baseline.HONESTY,
        when=when.strftime("%d %B %Y, %H:%M"),
        version=__version__,
    )


def _said_on_top(finding: Finding, result: Preflight) -> bool:
    """A ready site's next step, the approval, stands under the verdict with its command."""
    return result.ready and finding.code == StudyNotApproved.code and finding.severity == "note"


def verdict(result: Preflight) -> str:
    """The answer in a few words."""
    fixes = sum(finding.severity == "fix" for finding in result.findings)
    return "Ready" if result.ready else f"Not ready: {fixes} {'thing' if fixes == 1 else 'things'} to fix"


def _shown(finding: Finding, seen: Seen, names: dict[str, LocalName], home: Path, study_file: Path) -> Shown:
    cases = []
    for case in finding.cases:
        name = names.get(case, NAMELESS)
        if finding.severity == "fix" and name.local and not name.where:
            name = LocalName(name.local, str(own_file(seen.config, name.local)))
        look = look_command(finding.kind, name, seen.config) if name.where else None
        cases.append(Concerned(case, name.local, name.where, look))
    own = () if finding.commands == AGAIN else finding.commands  # those stand once, under the list
    return Shown(finding, tuple(cases), tuple(_here(command, home, study_file) for command in own))


def _card(entry: CaseEntry, seen: Seen, names: dict[str, LocalName]) -> Card:
    name = names.get(entry.case, NAMELESS)
    return Card(entry, name.local, name.where, seen.looks[entry.case].planes)


def _here(command: str, home: Path, study_file: Path) -> str:
    """A command with this site's home and study file in it."""
    return command.replace("HOME", shlex.quote(str(home))).replace("STUDY", shlex.quote(str(study_file)))


def _size(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**30:.1f} GiB"


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _write(path: Path, text: str) -> Path:
    part = path.with_suffix(f"{path.suffix}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return part.replace(path)
