"""Whether the world is as it was in training: novelty and camera shift of each image."""
