"""Attacks on FedLoupe's own training, to see that they fail where they should: the canary audit and gradient inversion.

found = audit_canaries(spend, privacy)        # an empirical lower bound of epsilon, beside the formal one
back = invert(study, groups)                  # what one patient's gradient gives away, without and with noise
"""

from fedloupe_server.simulation.auditing.canaries import CanaryAudit, audit_canaries, epsilon_bound
from fedloupe_server.simulation.auditing.inversion import Inversion, invert

__all__ = ["CanaryAudit", "Inversion", "audit_canaries", "epsilon_bound", "invert"]
