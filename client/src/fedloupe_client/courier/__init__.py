"""The courier: Flower's SuperNode and a ClientApp of a few lines that carries bytes to the site's socket and back.

Imports neither data nor PyTorch; the only room of the hospital that imports Flower.
"""
