"""Does this machine's engine give the agreed numbers? IBSI's digital phantom, and a generated case.

from fedloupe_client.radiomics.conformance import check_engine
check_engine().passed
"""

from fedloupe_client.radiomics.conformance.check import EngineCheck, EngineDeviates, check_engine, golden_values
from fedloupe_client.radiomics.conformance.generated import generated_case, generated_values
from fedloupe_client.radiomics.conformance.phantom import Consensus, consensus, ibsi_tag, phantom_values

__all__ = [
    "Consensus",
    "EngineCheck",
    "EngineDeviates",
    "check_engine",
    "consensus",
    "generated_case",
    "generated_values",
    "golden_values",
    "ibsi_tag",
    "phantom_values",
]
