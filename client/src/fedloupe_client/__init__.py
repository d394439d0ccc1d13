"""The hospital's side of FedLoupe: what a hospital installs, and can read in an afternoon."""
