"""Checkpoints of every family, loaded here and by the family's own code: how far the two are apart.

``make parity`` runs it. Each module named in ``__main__.GROUPS`` has ``rows() -> list[Row]``.
"""

from vit_perception.files import telemetry

telemetry.off()  # before the families' code is imported
