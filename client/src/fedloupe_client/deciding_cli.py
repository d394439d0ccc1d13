"""`fedloupe-site inbox, approve, deny, withdraw, pause, resume, policy`: what a person decides.

fedloupe-site inbox HOME                                    what was asked, and what waits for somebody
fedloupe-site approve HOME STUDY --by NAME                  a study, by its file
fedloupe-site approve HOME ITEM --by NAME                   a run or a round of the inbox
fedloupe-site deny HOME ITEM --by NAME --reason WHY
fedloupe-site withdraw HOME FINGERPRINT --by NAME           an approved study
fedloupe-site pause HOME --by NAME                          answer nothing
fedloupe-site resume HOME --by NAME
fedloupe-site distrust HOME FINGERPRINT --by NAME           a coordinator's key
fedloupe-site peers HOME                                    other hospitals' keys
fedloupe-site policy HOME                                   the limits in force
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fedloupe.signing import same_spoken, spoken
from fedloupe.study import ClientDp, load_study, privacy_in_words
from fedloupe.terminal import console, say_json, speaking
from fedloupe_client.config import load_site

Home = Annotated[Path, typer.Argument(help="the site's home folder, with site.yaml", show_default=False)]
By = Annotated[str, typer.Option(help="who decides: a name that your audit will recognise")]
Reason = Annotated[str, typer.Option(help="why; stays here")]
Item = Annotated[str, typer.Argument(help="as `fedloupe-site inbox` names it", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="one JSON document instead of words")]


def inbox_command(home: Home, as_json: Json = False) -> None:
    """What was asked of this site, the latest first: studies, runs, rounds, and what a person decided about them.

    Exit code 3: something waits for a person.
    """
    from fedloupe_client.gate import approved, load_policy
    from fedloupe_client.gate.decisions import paused, waits
    from fedloupe_client.gate.inbox import Inbox
    from fedloupe_client.gate.trust import trusted

    with speaking(as_json):
        load_site(home)
        policy, studies, known, stop = load_policy(home), approved(home), trusted(home), paused(home)
        asked = Inbox(home).items()
    waiting = [one for one in asked if waits(one, policy, studies.keys())]
    if as_json:
        say_json(
            {
                "paused": stop,
                "items": [{"name": a.item.name, **asdict(a), "waits": a in waiting} for a in asked],
            }
        )
    else:
        if stop:
            console.print(f"[yellow]paused[/] since {stop['when']} by {stop['by']}: {stop['reason'] or 'no reason'}")
        table = Table("item", "what", "study", "run", "asked", "last (UTC)", "by", "decision")
        for one in asked:
            item, study = one.item, studies.get(one.item.fingerprint)
            what = item.level if item.level != "round" else f"{item.kind} {item.round}"
            who = known[item.coordinator].name if item.coordinator in known else "?"
            decision = "[bold]waits[/]" if one in waiting else "-" if one.decision == "open" else one.decision
            table.add_row(
                *(item.short, what, study.study.study if study else item.fingerprint[:12], item.run),
                *(str(one.times), one.last[:19], who, f"{decision} {one.by}".rstrip()),
            )
        console.print(table if asked else "Nothing was asked yet.")
    if waiting:
        raise typer.Exit(3)


def approve_command(
    home: Home,
    study: Annotated[str, typer.Argument(help="the study's file, or an item of the inbox", show_default=False)],
    by: By,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Approve one study, by its fingerprint: any change to it needs a new approval. Or a run or round of the inbox."""
    from fedloupe_client.gate import approve
    from fedloupe_client.gate.decisions import decide

    with speaking(as_json):
        load_site(home)
        if not Path(study).exists() and Path(study).suffix == "":
            asked = decide(home, study, "approved", by=by, reason=reason)
            if as_json:
                say_json({"approved": study, "level": asked.item.level, "run": asked.item.run, "by": by})
            else:
                console.print(f"approved [bold]{asked.item.level}[/] {study} of run {asked.item.run} by {by}")
            return
        protocol = load_study(Path(study))
        approve(home, protocol, by=by)
    if as_json:
        say_json({"approved": protocol.fingerprint, "study": protocol.study, "by": by})
        return
    console.print(
        f"approved [bold]{protocol.study}[/] by {by}\nfingerprint {protocol.fingerprint}\n"
        f"privacy     {privacy_in_words(protocol.privacy)}",
        highlight=False,
        soft_wrap=True,
    )
    if isinstance(protocol.privacy, ClientDp):
        seen = "the sum of all sites'" if protocol.aggregation == "secure" else "this site's"
        line = f"            the coordinator sees {seen} clipped weights without noise"
        console.print(line, highlight=False, soft_wrap=True)


def deny_command(home: Home, item: Item, by: By, reason: Reason = "", as_json: Json = False) -> None:
    """Say no to a study, a run or a round of the inbox; the coordinator learns that it was denied, not why."""
    from fedloupe_client.gate.decisions import decide

    with speaking(as_json):
        load_site(home)
        asked = decide(home, item, "denied", by=by, reason=reason)
    if as_json:
        say_json({"denied": item, "level": asked.item.level, "run": asked.item.run, "by": by})
    else:
        console.print(f"denied [bold]{asked.item.level}[/] {item} by {by}")


def withdraw_command(
    home: Home,
    fingerprint: Annotated[str, typer.Argument(help="of the study, at least eight digits", show_default=False)],
    by: By,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Take a study's approval back: it is refused from the next request on. What left before cannot be called back."""
    from fedloupe_client.gate.decisions import withdraw

    with speaking(as_json):
        load_site(home)
        whole = withdraw(home, fingerprint, by=by, reason=reason)
    if as_json:
        say_json({"withdrawn": whole, "by": by})
    else:
        console.print(f"withdrawn [bold]{whole[:12]}[/] by {by}: refused from the next request on")


def pause_command(home: Home, by: By, reason: Reason = "", as_json: Json = False) -> None:
    """Answer nothing until `resume`. The coordinator is told that the site has paused, and waits."""
    from fedloupe_client.gate.decisions import pause

    with speaking(as_json):
        load_site(home)
        pause(home, by=by, reason=reason)
    if as_json:
        say_json({"paused": True, "by": by})
    else:
        console.print(f"paused by {by}; `fedloupe-site resume {home} --by NAME` ends it", soft_wrap=True)


def resume_command(home: Home, by: By, as_json: Json = False) -> None:
    """Answer again."""
    from fedloupe_client.gate.decisions import resume

    with speaking(as_json):
        load_site(home)
        resume(home, by=by)
    if as_json:
        say_json({"paused": False, "by": by})
    else:
        console.print(f"resumed by {by}")


def distrust_command(
    home: Home,
    fingerprint: Annotated[str, typer.Argument(help="of the coordinator's key, all of it", show_default=False)],
    by: By,
    as_json: Json = False,
) -> None:
    """Look at this coordinator's requests no longer, from the next one on. A new kit, compared again, changes it."""
    from fedloupe_client.gate.trust import distrust, trusted
    from fedloupe_client.joining.errors import KitNotInstalled
    from fedloupe_client.joining.installed import alone, complete, forgo_trust

    waits = ""
    with speaking(as_json):
        load_site(home)
        with alone(home):
            try:
                complete(home)  # a join that was killed would trust again when somebody goes on with it
            except KitNotInstalled as error:
                waits = str(error)
                forgo_trust(home, fingerprint)
            found = [one for one in trusted(home).values() if same_spoken(fingerprint, one.key)]
            distrust(home, found[0].key if found else fingerprint, by=by)
    if as_json:
        say_json({"distrusted": found[0].key, "name": found[0].name, "by": by, "waits": waits})
        return
    console.print(f"[bold]{found[0].name}[/] is trusted no longer, by {by}")
    if waits:
        console.print(Text(f"{waits}. It will trust nobody", "yellow"), soft_wrap=True)


def peers_command(
    home: Home,
    accept: Annotated[str | None, typer.Option(help="a hospital whose new key you compared with it")] = None,
    heard: Annotated[str, typer.Option(help="its new key as it reads it out, all of it", show_default=False)] = "",
    by: Annotated[str, typer.Option(help="who compared it", show_default=False)] = "",
    as_json: Json = False,
) -> None:
    """The other hospitals' keys of secure sums, as first seen here. Compare them by telephone; accept a changed one."""
    from fedloupe_client.gate.peers import Peers

    with speaking(as_json):
        peers = Peers(home, load_site(home).site)
        if accept is not None:
            if not heard or not by:
                raise typer.BadParameter("`--accept` needs `--heard`, all 32 digits, and `--by`")
            peers.accept(accept, heard, by=by)
        found = peers.known()
    if as_json:
        say_json([asdict(peer) for peer in found])
        return
    table = Table("site", "key", "since (UTC)", "accepted by")
    for peer in found:
        table.add_row(peer.site, spoken(peer.key), peer.since[:19], peer.by or "first seen")
    console.print(table if found else "No other hospital was met yet.")


def policy_command(home: Home, as_json: Json = False) -> None:
    """The limits in force, each with its meaning, and whose requests are taken."""
    from fedloupe_client.gate import load_policy
    from fedloupe_client.gate.trust import trusted

    with speaking(as_json):
        load_site(home)
        policy, known = load_policy(home), trusted(home)
    if as_json:
        say_json({**policy.model_dump(mode="json"), "coordinators": [asdict(one) for one in known.values()]})
        return
    console.print(policy.describe(), highlight=False, soft_wrap=True)
    for one in known.values():
        line = f"coordinator: {one.name}, {spoken(one.key)}  (compared by {one.by}, {one.when})"
        console.print(line, highlight=False, soft_wrap=True)


def add_to(app: typer.Typer) -> None:
    """Give these commands to `fedloupe-site`."""
    commands: dict[str, Callable[..., None]] = {
        "inbox": inbox_command,
        "approve": approve_command,
        "deny": deny_command,
        "withdraw": withdraw_command,
        "pause": pause_command,
        "resume": resume_command,
        "distrust": distrust_command,
        "peers": peers_command,
        "policy": policy_command,
    }
    for name, command in commands.items():
        app.command(name)(command)
