"""The same study in one process: the one door from the server to the client. The demo and real data on one machine."""
