"""Numbers taken out of recorded messages of any type, by the definitions that the bag records."""
