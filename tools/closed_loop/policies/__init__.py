"""What answers the simulator's observations: the policies of examples/ and the baselines, their
training, and the process that runs one. All of it runs in .venv.
"""

import sys
from pathlib import Path

# The examples are scripts that import each other by name.
sys.path.append(str(Path(__file__).resolve().parents[3] / "examples"))
