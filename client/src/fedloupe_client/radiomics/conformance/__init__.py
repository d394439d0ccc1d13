"""Does this machine's engine give the agreed numbers? IBSI's digital phantom and its consensus values.

from fedloupe_client.radiomics.conformance import consensus, phantom_values
"""

from fedloupe_client.radiomics.conformance.phantom import Consensus, consensus, ibsi_tag, phantom_values

__all__ = ["Consensus", "consensus", "ibsi_tag", "phantom_values"]
