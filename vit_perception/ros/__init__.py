"""rclpy wiring: the only package that imports rclpy and message packages."""
