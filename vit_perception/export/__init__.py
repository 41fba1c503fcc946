"""Model to ONNX, and the gate that every engine has to pass."""
