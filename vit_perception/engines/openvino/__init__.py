"""OpenVINO on the CPU, and int8 for it."""
