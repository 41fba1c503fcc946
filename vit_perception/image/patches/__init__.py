"""What a camera's calibration and its depth say of each patch: its ray, and its point in space."""
