"""Pictures and reports for people: what the model sees, and what a recording holds."""
