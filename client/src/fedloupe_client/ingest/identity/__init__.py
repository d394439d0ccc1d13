"""De-identification at the door: what may be read, pseudonyms, and the search for whatever slipped through."""
