"""Bags read and written, without ROS and without knowing what is in them."""
