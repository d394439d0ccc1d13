"""The only room of the coordinator that imports Flower."""
