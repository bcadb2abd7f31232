"""`./millpond down`"""

from __future__ import annotations

from millpond_cli import stack
from millpond_cli.setup.home import home


def down() -> None:
    """Stop the stack; what it keeps in its folder stays."""
    place = home()
    stack.down(place.root)
    print(f"stopped; data and logs are in {place.run}")
