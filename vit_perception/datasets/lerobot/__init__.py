"""LeRobot data sets: their description, tables and videos, read with bounds."""
