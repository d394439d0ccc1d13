"""The coordinator's side of FedLoupe."""
