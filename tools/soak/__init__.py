"""A robot's shift in short: the real node under load, one fault after the other, and whether it did
what it promises.

``__main__`` is the command; ``sensors`` are the processes of cameras and arms; ``board`` is how
they are told what to do and say what they sent; ``node`` starts the encoder node; ``observer``
listens and keeps the books; ``robot`` holds all processes; ``sensor_faults`` and ``node_faults``
inject; ``schedule`` says which and when; ``report`` judges.
"""
