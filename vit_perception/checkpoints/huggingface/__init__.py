"""Checkpoints in the form of Hugging Face's transformers: config.json, processor and tensors."""
