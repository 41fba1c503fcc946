"""Recordings that are embedded several times, each time with other pictures."""
