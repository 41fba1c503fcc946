"""End-effector poses: rotations, the pose at an image's stamp, and pose tokens."""
