"""What hospitals and the coordinator must agree on. Imports neither side, and no Flower."""

__version__ = "0.1.0"
