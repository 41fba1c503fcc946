"""Find frames in the features of `embed`: near ones, copies, a diverse choice, bad episodes."""
