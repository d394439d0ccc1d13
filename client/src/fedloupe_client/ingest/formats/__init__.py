"""NIfTI and NRRD: what a file may hold, and volumes with their geometry."""
