"""The only room that imports rclpy and message packages."""
