"""What came out: pooling, figures and the report."""
