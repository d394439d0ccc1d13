"""How the rounds went: who took part, and what the training loss, or each site's privacy loss, did.

rounds(results)      # a Figure, or None where no round was recorded
"""

from __future__ import annotations

from fedloupe_server.evidence.drawing import ABSENT_SITE, FEDERATED, GRID, INK, LOCAL, SOFT, Drawing, Figure
from fedloupe_server.evidence.results import Results, RoundRecord

WIDTH, LEFT, RIGHT, TOP, PLOT, ROW, MOST_POINTS = 720, 130, 600, 30, 150, 22, 300
# A bar and a line of one site share a colour; past eight sites colours repeat.
ALL = "all sites"
SITE_COLOURS = (FEDERATED, "#3b5ba5", LOCAL, "#7c8a2e", "#a34a6f", "#4f6d7a", "#8a5a44", "#2f855a")


def rounds(results: Results) -> Figure | None:
    """Lines: training loss over all sites (under DP-SGD, record-level epsilon by site). Bars: rounds taken part in."""
    record = results.rounds
    if not record:
        return None
    sites = [s.site for s in results.sites if s.role == "train"]
    private = all(r.loss is None for r in record)
    losses = [(place, r.loss) for place, r in enumerate(record) if r.loss is not None]
    values = {s: _spent(record, s) for s in sites} if private else {ALL: losses}
    highest = max((v for points in values.values() for _, v in points), default=0.0)
    plot = PLOT if highest > 0 else 0
    bars = TOP + plot + (46 if plot else 0)
    drawing = Drawing(
        "rounds",
        WIDTH,
        bars + ROW * len(sites) + 40,
        "Participants of each round"
        + (f" and {'record-level epsilon spent' if private else 'training loss'}" if plot else ""),
        "; ".join(_sentence(record, s) for s in sites),
    )
    if plot:
        _lines(drawing, record, values, highest, "Epsilon spent, record-level" if private else "Training loss")
    drawing.text(0, bars - 10, "Took part", SOFT, 12, weight=600)
    for number, site in enumerate(sites):
        y = bars + ROW * number
        drawing.text(0, y + 12, site, INK, 13, most=17)
        drawing.rect(LEFT, y + 3, RIGHT - LEFT, 9, _colour(sites, site), round_=2)
        here = sum(site in r.participants for r in record)
        for place, entry in enumerate(record):
            if site not in entry.participants:
                width = (RIGHT - LEFT) / len(record)
                drawing.rect(LEFT + width * place, y + 2, width, 11, "#ffffff", ABSENT_SITE)
                if site in entry.carried:
                    drawing.rect(LEFT + width * place, y + 6, width, 3, _colour(sites, site))
                elif site in entry.late:
                    drawing.circle(LEFT + width * (place + 0.5), y + 7.5, 2, ABSENT_SITE)
        drawing.text(RIGHT + 14, y + 12, f"{here} of {len(record)} rounds", SOFT, 12)
    bottom = bars + ROW * len(sites) + 16
    drawing.text(LEFT, bottom, f"round {record[0].round}", SOFT, 11.5)
    drawing.text(RIGHT, bottom, f"round {record[-1].round}", SOFT, 11.5, "end")
    header = ("round", "site", "took_part", "late", "carried", "loss_all_sites", "epsilon", "client_epsilon", "weights")
    rows = tuple(
        (r.round, s, *_presence(r, s), r.loss, r.epsilon.get(s), r.client_epsilon, r.weights)
        for r in record
        for s in sites
    )
    return Figure("rounds", drawing.render(), header, rows)


def _presence(entry: RoundRecord, site: str) -> tuple[int, int, int]:
    """1 or 0: took part; was at work and not waited for; its answer to the round before was added."""
    return int(site in entry.participants), int(site in entry.late), int(site in entry.carried)


def _sentence(record: tuple[RoundRecord, ...], site: str) -> str:
    here, late, carried = (sum(flags) for flags in zip(*(_presence(r, site) for r in record), strict=True))
    more = "".join(f", {n} {word}" for n, word in ((late, "late"), (carried, "added a round later")) if n)
    return f"{site} took part in {here} of {len(record)} rounds{more}"


def _spent(record: tuple[RoundRecord, ...], site: str) -> list[tuple[int, float]]:
    """(place of the round, epsilon spent so far) where the site said so."""
    every = ((place, r.epsilon.get(site)) for place, r in enumerate(record))
    return [(place, value) for place, value in every if value is not None]


def _lines(
    drawing: Drawing,
    record: tuple[RoundRecord, ...],
    values: dict[str, list[tuple[int, float]]],
    highest: float,
    title: str,
) -> None:
    """One line a site, its name at the end, names pushed apart."""
    bottom, sites = TOP + PLOT, list(values)
    drawing.text(0, TOP + 4, title, SOFT, 12, weight=600)
    step = _step(highest)
    top = step * -(-highest // step)
    tick = 0.0
    while tick <= top + step / 2:
        y = bottom - PLOT * tick / top
        drawing.line(LEFT, y, RIGHT, y, GRID)
        drawing.text(LEFT - 8, y + 4, f"{tick:g}", SOFT, 11.5, "end")
        tick = round(tick + step, 10)
    ends: list[tuple[float, str]] = []
    for site, points in values.items():
        thin = points[:: -(-len(points) // MOST_POINTS) or 1]
        if thin and thin[-1] != points[-1]:
            thin = [*thin, points[-1]]
        drawn = [
            (LEFT + (RIGHT - LEFT) * (place + 0.5) / len(record), bottom - PLOT * value / top) for place, value in thin
        ]
        if drawn:
            drawing.polyline(drawn, _colour(sites, site))
            drawing.circle(*drawn[-1], 3, _colour(sites, site))
            ends.append((drawn[-1][1], site))
    if len(ends) * 14 > PLOT:
        return  # no room for names here; the bars below carry the same colours
    ends.sort()
    placed: list[float] = []
    for y, _ in ends:
        placed.append(max(y + 4, placed[-1] + 14) if placed else y + 4)
    excess = (placed[-1] - ends[-1][0] - 4) / 2 if ends else 0.0
    for y, (_, site) in zip(placed, ends, strict=True):
        drawing.text(RIGHT + 14, y - excess, site, _colour(sites, site), 12, weight=600, most=16)


def _colour(sites: list[str], site: str) -> str:
    return SITE_COLOURS[sites.index(site) % len(SITE_COLOURS)]


def _step(highest: float) -> float:
    """A round step that gives two to five ticks."""
    step = 1e-6
    while True:
        for factor in (1, 2, 5):
            if highest / (step * factor) <= 5:
                return step * factor
        step = round(step * 10, 10)
