"""Topics that are on the ROS graph: what they carry, and parameters of the node for them."""
