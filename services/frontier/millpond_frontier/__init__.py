"""Millpond's way to large models: the requests of ai.frontier, and the synchronous tier over gRPC."""
