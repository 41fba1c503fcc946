"""What the node says of its own state: to the person who starts it, in the log, and as a screen."""
