"""Checkpoints of OpenAI's CLIP and of OpenCLIP, with their text towers."""
