"""What the batcher makes of an engine, beside the engine driven directly; and of deadlines, beside first come."""
