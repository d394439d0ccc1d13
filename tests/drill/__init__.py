"""The kill drill: a federation in network namespaces, and faults at random moments. `make drill`."""
