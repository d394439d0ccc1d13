"""The round loop: strategies, quorum, journal. Knows no Flower and no site's data.

results = run_study(study, exchange, Path("runs/demo"))
"""

from fedloupe_server.federation.drawing import draw_study
from fedloupe_server.federation.events import Event, Observer
from fedloupe_server.federation.exchange import Exchange
from fedloupe_server.federation.run import run_study

__all__ = ["Event", "Exchange", "Observer", "draw_study", "run_study"]
