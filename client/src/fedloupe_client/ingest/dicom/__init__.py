"""DICOM: headers, which series is which sequence, geometry, pixels, drawings, dynamic and diffusion series."""
