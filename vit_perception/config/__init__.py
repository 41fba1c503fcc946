"""What a user can set: the table of parameters, the settings made of it, and parameter files."""
