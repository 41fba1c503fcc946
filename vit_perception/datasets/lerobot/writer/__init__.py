"""A LeRobot data set, version 3.0, made of `embed`'s features."""
