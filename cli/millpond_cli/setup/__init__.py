"""Sets up what the stack and the tests need, once, under one folder."""
