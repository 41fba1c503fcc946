"""`embed --ray` and `embed --dry-run`: options, what is read, the bar, and the plan as text."""
