"""Can this site train now? Everything that must hold, each thing that does not with what to do about it.

    for one in site_missing(home, socket, utc_now()):       # what the site process sees
        print(one.what, one.do)
    for one in courier_missing(courier, utc_now()):         # what the courier sees, without HOME

A process that lives is not enough: a site whose approval was withdrawn, or whose courier is refused, lives and never
trains. Nothing is written, and nothing is asked of the gate.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedloupe.errors import FedLoupeError
from fedloupe_client.gate import approved, load_policy
from fedloupe_client.gate.decisions import paused
from fedloupe_client.joining.courier_file import read_courier_file
from fedloupe_client.joining.installed import installed, interrupted
from fedloupe_client.site.server import SiteSilent, alive

STATE_FILE = "courier-state.json"  # as in fedloupe_client.courier.state, which this side does not import
FRESH_S = 60.0
"""Seconds after which a state is of a courier that is no more; it writes every five."""
CONTACT_S = 150.0
"""Seconds since the coordinator last answered; a courier asks at least every 120."""


@dataclass(frozen=True)
class Missing:
    """One thing that keeps the site from training.

    Attributes:
        name: for scripts.
        what: is missing, in words.
        do: next.
    """

    name: str
    what: str
    do: str


def site_missing(home: Path, socket: Path, now: datetime) -> Iterator[Missing]:
    """What keeps the site process from training.

    Args:
        home: the site's home folder.
        socket: of the site process.
        now: UTC.
    """
    if not os.access(home, os.R_OK | os.X_OK):
        yield Missing("home", f"this user cannot read {home}", "run it as the site process's user")
        return
    for look in (_kit, _study, _paused, _policy):
        yield from _told(look, home, now)
    yield from _socket(socket)


def courier_missing(courier: Path, now: datetime) -> Iterator[Missing]:
    """What keeps the courier from carrying messages.

    Args:
        courier: the courier's folder.
        now: UTC.
    """
    yield from _told(_courier_kit, courier, now)
    path = courier / "state" / STATE_FILE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        written = _age(state["written"], now)
        name, code, title = str(state["state"]), state["last_code"], state["last_title"]
        contact = None if state["last_contact"] is None else _age(state["last_contact"], now)
    except FileNotFoundError:
        yield Missing("courier", "the courier never ran", "start it: `fedloupe-site courier`")
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Missing("courier", f"the courier's state cannot be read: {type(error).__name__}", f"see to {path}")
        return
    if name == "stopped" or written > FRESH_S:
        yield Missing("courier", f"the courier does not run (its last word: {written:.0f} s ago)", "start it")
    elif name != "online":
        why = f": {code} {title}" if code else ""
        yield Missing(
            "courier", f"the courier is {name}{why}", f"see its log, and {code or 'FL-672'} in docs/errors.md"
        )
    elif contact is None or contact > CONTACT_S:
        yield Missing("courier", "the coordinator has not answered for minutes", "see the courier's log")


def _told(look: Callable[[Path, datetime], Iterator[Missing]], folder: Path, now: datetime) -> Iterator[Missing]:
    """What cannot be read is missing as well."""
    try:
        yield from look(folder, now)
    except FedLoupeError as error:
        yield Missing(error.code, f"{error.code} {error.what} ({error.where})", error.remedy)


def _kit(home: Path, now: datetime) -> Iterator[Missing]:
    if interrupted(home):
        yield Missing(
            "joining",
            "a kit is decided and not yet all in place",
            "`fedloupe-site status HOME`, as the user who ran `join`, where both folders are seen",
        )
    kit = installed(home)
    if kit is None:
        yield Missing("kit", "no kit is installed", "`fedloupe-site init`, then `fedloupe-site join`")
    else:
        yield from _in_time(kit.expires, now)


def _courier_kit(courier: Path, now: datetime) -> Iterator[Missing]:
    yield from _in_time(read_courier_file(courier).expires, now)
    if not (courier / "flower" / "approved").is_file():
        yield Missing(
            "bundle",
            "the courier's Flower home is not made",
            f"`python -m fedloupe_client.courier approve {courier / 'fedloupe.fab'} --home {courier / 'flower'}`",
        )


def _in_time(expires: str, now: datetime) -> Iterator[Missing]:
    if datetime.fromisoformat(expires) <= now:
        yield Missing("kit", f"the kit expired on {expires[:10]}", "ask the coordinator for a new one, then join again")


def _study(home: Path, now: datetime) -> Iterator[Missing]:
    del now
    if not approved(home):
        yield Missing("study", "no study is approved", "read it, then `fedloupe-site approve HOME STUDY --by NAME`")


def _paused(home: Path, now: datetime) -> Iterator[Missing]:
    del now
    if (stop := paused(home)) is not None:
        words = f"paused since {stop['when']} by {stop['by']}"
        yield Missing("paused", words, "`fedloupe-site resume HOME --by NAME`")


def _policy(home: Path, now: datetime) -> Iterator[Missing]:
    del now
    load_policy(home)  # a mistake in it refuses everything
    yield from ()


def _socket(socket: Path) -> Iterator[Missing]:
    if socket.exists() and not os.access(socket, os.W_OK):
        yield Missing("site", f"this user may not use {socket}", "run it as the site's user, or one of its group")
        return
    try:
        alive(socket)
    except SiteSilent:
        yield Missing("site", f"the site process does not answer on {socket}", "start it: `fedloupe-site start`")
    except FedLoupeError as error:
        yield Missing("site", f"the site process answers with {error.code} {error.title}", error.remedy)


def _age(moment: str, now: datetime) -> float:
    """Seconds since an ISO 8601 time with its zone."""
    return (now - datetime.fromisoformat(moment).astimezone(UTC)).total_seconds()
