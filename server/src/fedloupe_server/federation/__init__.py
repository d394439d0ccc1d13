"""The round loop: strategies, quorum, journal. Knows no Flower and no site's data.

results = run_study(study, exchange, Path("runs/demo"))
"""

from fedloupe_server.federation.drawing import draw_study
from fedloupe_server.federation.events import Event, Observer
from fedloupe_server.federation.exchange import Exchange
from fedloupe_server.federation.run import freeze_study, run_study
from fedloupe_server.federation.validating import validate_run

__all__ = ["Event", "Exchange", "Observer", "draw_study", "freeze_study", "run_study", "validate_run"]
