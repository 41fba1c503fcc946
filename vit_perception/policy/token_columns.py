"""The columns of tokens as a reader gets them: restored from eight bits, or from a basis."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vit_perception.policy.basis_file import FILE_NAME, load_basis
from vit_perception.wire.basis import (
    Basis,
    coefficients_of,
    exact_rows,
    expand_groups,
    unpack_groups,
)
from vit_perception.wire.layout import Layout
from vit_perception.wire.quantised import restore

TOKENS = "tokens"
# Before the name of a group of coefficients.
COEFFICIENTS = "coefficients."


class TokenColumns:
    """How the token columns of one folder are restored.

    With ``expand`` False, coefficients of a basis stay what they are: ``tokens`` has the rows of
    the other groups alone, and ``coefficients.<group>`` (T, K) float32 are columns of their own.

    Raises:
        InvalidValue: The file of the basis lacks or is another one.
    """

    def __init__(self, folder: Path, layouts: Sequence[Layout], expand: bool):
        self._layout = layouts[0] if layouts else None
        self._is_packed = self._layout is not None and self._layout.basis is not None
        cameras = self._layout.cameras if self._layout else ()
        # Columns by how they are stored.
        self._rows: set[str] = set()
        self._reduced: set[str] = set()
        self._basis: Basis | None = None
        # The columns of coefficients, if they are not expanded.
        self.coefficients: tuple[str, ...] = ()
        if self._layout is not None and self._layout.dtype == "int8":
            self._rows = {TOKENS, *(f"{c.name}.{k}" for c in cameras for k in ("cls", "patch"))}
        if self._layout is not None and self._is_packed:
            self._reduced = {f"{camera.name}.patch" for camera in cameras}
            basis = load_basis(folder / FILE_NAME).basis
            basis.check_layout(self._layout)
            if expand:
                self._basis = basis
            else:
                groups = [g.name for g in self._layout.groups if g.kind == "patch"]
                self.coefficients = tuple(f"{COEFFICIENTS}{name}" for name in groups)

    def stored(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the columns of the file from which ``names`` are made."""
        return tuple(dict.fromkeys(TOKENS if name in self.coefficients else name for name in names))

    def restored(
        self, stored: Mapping[str, np.ndarray], names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Return the columns ``names`` of one row, made of those ``stored``."""
        made = {name: self._one(name, values) for name, values in stored.items()}
        if self._layout is not None and self._is_packed and TOKENS in stored:
            groups = unpack_groups(stored[TOKENS], self._layout)
            if self._basis is not None:
                made[TOKENS] = expand_groups(groups, self._layout, self._basis)
            else:
                made[TOKENS] = exact_rows(groups, self._layout)
                of_groups = coefficients_of(groups, self._layout)
                made |= {f"{COEFFICIENTS}{name}": rows for name, rows in of_groups.items()}
        return {name: made[name] for name in names}

    def restored_rows(
        self, stored: Mapping[str, np.ndarray], names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Return ``names`` of several rows, with a leading axis, as :meth:`restored`."""
        if not (self._is_packed and TOKENS in stored):
            return {name: self._one(name, stored[name]) for name in names}
        rows = [self.restored(dict(zip(stored, values)), names) for values in zip(*stored.values())]
        return {name: np.stack([row[name] for row in rows]) for name in names}

    def _one(self, name: str, values: np.ndarray) -> np.ndarray:
        if name in self._rows:
            return restore(values)
        if name in self._reduced:
            coefficients = restore(values)
            return self._basis.expand(coefficients) if self._basis else coefficients
        return values
