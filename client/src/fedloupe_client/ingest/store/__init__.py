"""What ingest keeps: the case store, finished cases on their shelf, what is known of files, and who works here."""
