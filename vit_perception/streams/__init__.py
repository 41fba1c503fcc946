"""Time: histories of samples, cameras grouped by stamp, and the wait for a pose. No rclpy."""
