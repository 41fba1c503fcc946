"""Recordings and features on object storage, and lists of many recordings."""
