"""Files of engines: stored, found again, checked, and explained if they do not fit."""
