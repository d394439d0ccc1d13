"""The site process: message in, gate, work, gate, message out. Knows nothing of Flower."""
