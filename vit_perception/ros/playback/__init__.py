"""A bag played back on ROS topics, and the outputs of a node watched meanwhile."""
