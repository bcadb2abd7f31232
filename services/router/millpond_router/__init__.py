"""The router: reads requests, decides which model answers each and by when, and says why."""
