"""rosbag2 files read and replayed through the pipeline, without ROS."""
