"""The same study in one process: the one door from the server to the client."""
