"""What the project's own runs need, and its users do not."""

import sys
from pathlib import Path

# The conformance suite is a distribution of its own; where it is not installed (a borrowed machine) it is found in the checkout.
sys.path.append(str(Path(__file__).parent.parent / "conformance"))
