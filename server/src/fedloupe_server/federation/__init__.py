"""The round loop: strategies, quorum, journal. Knows no Flower and no statistics."""
