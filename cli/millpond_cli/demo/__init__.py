"""`./millpond demo`: the work, how it is run, and what came of it."""
