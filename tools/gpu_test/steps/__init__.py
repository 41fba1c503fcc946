"""The steps of :mod:`tools.gpu_test.plan`. Each function takes the machine, the note, and the
step's argument.
"""
