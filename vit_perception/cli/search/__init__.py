"""Find frames in recorded features: like a picture, a frame or a text; copies; bad episodes.

FEATURES are folders of `vit-perception embed`. Results are the frames nearest to a query, spread
over episodes, as a table, and as a sheet of their pictures with --sheet. Above 100,000 frames they
come from an index on disk (LanceDB), which is brought up to date first; below, every vector is
compared. The last line says which it was.
"""

from vit_perception.cli.search.command import EXAMPLES, add_arguments, run

__all__ = ["EXAMPLES", "add_arguments", "run"]
