"""What is normal for each camera, learnt from features."""
