"""What preflight found, as values: each with its code, kind, remedy and command, most important first.

found = Finding.of(DuplicatePixels("...", remedy="..."), "fix", cases=("0123456789abcdef", "fedcba9876543210"))
sorted([found, ...], key=importance)
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from fedloupe.errors import FedLoupeError
from fedloupe_client.ingest.problems import URGENCY, DataProblem, Kind

Severity = Literal["fix", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("fix", "warning", "note")
AGAIN = ("fedloupe-site ingest HOME STUDY", "fedloupe-site check HOME STUDY")
CHECK = AGAIN[1:]


class Frozen(BaseModel):
    """A value that does not change and has no other fields than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DuplicatePixels(DataProblem):
    """Two cases hold the same voxels or the same row of features: one of them is somebody else's data."""

    code = "FL-630"
    title = "two cases hold the same pixels"
    kind = "mislabelled"


class MachineTooSmall(DataProblem):
    """Disk or memory does not suffice for the study."""

    code = "FL-631"
    title = "machine is too small for the study"
    kind = "configuration"


class ConnectionFailed(DataProblem):
    """The coordinator's address does not answer."""

    code = "FL-632"
    title = "coordinator cannot be reached"
    kind = "configuration"


class ProxyFailed(DataProblem):
    """The hospital's own proxy (HTTPS_PROXY) does not open the way to the coordinator."""

    code = "FL-642"
    title = "proxy does not let the connection through"
    kind = "configuration"


class CertificateRefused(DataProblem):
    """The coordinator's certificate does not hold against the given root, or will soon expire."""

    code = "FL-633"
    title = "certificate is not accepted"
    kind = "configuration"


class ClockOff(DataProblem):
    """This machine's clock and the coordinator's differ: certificates hold from a time to a time."""

    code = "FL-634"
    title = "clock is wrong"
    kind = "configuration"


class NotJoined(DataProblem):
    """The site has no kit, or its certificate ends or has ended."""

    code = "FL-666"
    title = "the site is not, or soon no longer, part of the federation"
    kind = "configuration"


class RehearsalFailed(DataProblem):
    """A dry round of the study's own model did not end well on this machine."""

    code = "FL-635"
    title = "dry training step failed"
    kind = "configuration"


class Unusual(DataProblem):
    """A case stands apart from the site's others by a robust rule. It may be right."""

    code = "FL-636"
    title = "case stands apart from the others"
    kind = "mislabelled"


class MasksDrawn(DataProblem):
    """Cases have no mask of their own: a model drew one, and everything about their tumours rests on it."""

    code = "FL-640"
    title = "masks were drawn by a model"
    kind = "absence"


class BurnedInText(DataProblem):
    """Something in a case's pictures stands still from slice to slice, as a name or an id does that was drawn in."""

    code = "FL-641"
    title = "text may be burned into the pictures"
    kind = "mislabelled"


class FewForNoise(DataProblem):
    """A private study asks a site to train with so few patients that the noise may drown them. It may still train."""

    code = "FL-644"
    title = "few patients for the noise of this epsilon"
    kind = "degenerate"


class BesideStudy(DataProblem):
    """The site's data do not fit what the study declares: grid, crop or sequences."""

    code = "FL-637"
    title = "data lie beside the study's ranges"
    kind = "configuration"


class ValuesMissing(DataProblem):
    """A clinical variable is unknown in many cases."""

    code = "FL-638"
    title = "clinical variable is often missing"
    kind = "absence"


class PageUnwritable(FedLoupeError):
    """The preflight page cannot be written."""

    code = "FL-639"
    title = "preflight page cannot be written"


class Finding(Frozen):
    """One thing to know, free of identifiers.

    Attributes:
        severity: `fix` keeps the site from being ready; `warning` deserves a look; `note` is for information.
        scope: `site`, or `case` where single cases must be looked at.
        code: error code, which docs/errors.md explains.
        kind: who mends it, see `DataProblem`.
        title: the finding in a few words.
        what: what was found.
        remedy: what to do.
        commands: what to type, with HOME and STUDY for this site's home and the study's file.
        cases: pseudonyms of the cases concerned.
    """

    severity: Severity
    scope: Literal["site", "case"]
    code: str
    kind: Kind
    title: str
    what: str
    remedy: str
    commands: tuple[str, ...] = CHECK
    cases: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        error: FedLoupeError,
        severity: Severity,
        *,
        cases: tuple[str, ...] = (),
        commands: tuple[str, ...] = CHECK,
    ) -> Finding:
        """The finding that an error describes; `where` is left behind."""
        return cls(
            severity=severity,
            scope="case" if cases else "site",
            code=error.code,
            kind=kind_of(type(error)),
            title=error.title,
            what=error.what,
            remedy=error.remedy,
            commands=commands,
            cases=cases,
        )


def kind_of(error: type[FedLoupeError]) -> Kind:
    """The kind of a class of errors; `configuration` for those that are not about data."""
    kind: Kind = getattr(error, "kind", "configuration")
    return kind


def importance(finding: Finding) -> tuple[int, bool, bool, int, int, str, tuple[str, ...]]:
    """Sort key: what stops the site, then what stops cases by urgency and number, then warnings, then notes.

    Within each, what a command can mend comes before what is for the eye only.
    """
    urgency = URGENCY.index(finding.kind)
    place = SEVERITIES.index(finding.severity)
    return (
        place,
        not finding.commands,
        finding.scope == "case",
        urgency,
        -len(finding.cases),
        finding.code,
        finding.cases,
    )
