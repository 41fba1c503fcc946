"""For policy authors: live observations without rclpy, and `embed`'s files as a torch data set."""
