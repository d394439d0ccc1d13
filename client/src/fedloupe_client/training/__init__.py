"""Local work on a cohort: sums for the statistics, epochs with and without differential privacy, evaluation.

Knows nothing of Flower, of policies or of messages' journeys.
"""
