"""Which architecture, and was federation worth it: from the scores of many runs to estimates, tests and tables.

comparison = compare(setting, fits)          # fits: every variant's scores of every patient, by site
comparison_tables(comparison, costs), comparison_page(comparison, costs)

Knows no client: `fedloupe_server.simulation.compare` runs the variants and brings their scores.
"""

from fedloupe_server.comparing.estimates import Fit, SiteScores, compare
from fedloupe_server.comparing.record import Comparison, Costs, Difference, Estimate, Setting
from fedloupe_server.comparing.tables import comparison_page, comparison_tables

__all__ = [
    "Comparison",
    "Costs",
    "Difference",
    "Estimate",
    "Fit",
    "Setting",
    "SiteScores",
    "compare",
    "comparison_page",
    "comparison_tables",
]
