"""Files of others, opened so that none can stop the process or fill its memory, and our own,
written whole or not at all.
"""
