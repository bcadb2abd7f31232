"""What all tests share: the real components, started once where a test asks for one."""

from __future__ import annotations

import sys
from pathlib import Path

# Test support beside the tests is imported by name.
sys.path.insert(0, str(Path(__file__).parent / "contract"))
