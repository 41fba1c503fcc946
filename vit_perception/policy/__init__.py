"""For policy authors: live observations without rclpy (``live``), and `embed`'s files as a torch
data set.
"""
