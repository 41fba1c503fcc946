"""What DDS reports of the node's topics: peers whose QoS does not match, deadlines, liveliness."""
