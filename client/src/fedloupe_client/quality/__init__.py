"""How repeatable and how redundant a site's features are; only sums over training patients can leave.

derive_versions(home, study, cases)                 # features of each case as it might have come out otherwise; resumes
sums = stability(versions, mean, scale)             # what the coordinator adds up to an intraclass correlation
"""

from fedloupe_client.quality.own import OwnQuality, own_quality
from fedloupe_client.quality.sums import chosen_rows, redundancy, stability
from fedloupe_client.quality.versions import derive_versions, load_versions

__all__ = [
    "OwnQuality",
    "chosen_rows",
    "derive_versions",
    "load_versions",
    "own_quality",
    "redundancy",
    "stability",
]
