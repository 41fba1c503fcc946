"""What a user can set: the parameter table, the settings objects made of it, and parameter
files.
"""
