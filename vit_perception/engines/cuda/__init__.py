"""What every engine on an NVIDIA GPU needs: the device, its faults, and graph replay."""
