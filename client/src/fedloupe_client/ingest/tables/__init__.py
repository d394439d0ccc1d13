"""Tables: the clinical CSV, ready-made features, and which of two examinations counts."""
