"""LeRobot itself on a data set of `embed --format lerobot`."""
