"""Statistics of the federation from sums over sites: equal to the pooled ones, without pooling a patient."""
