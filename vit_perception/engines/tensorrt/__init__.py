"""The TensorRT engine: its Python interface, its buffers, the build and the run."""
