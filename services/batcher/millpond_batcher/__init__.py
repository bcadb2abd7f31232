"""Gathers waiting requests into batches for the models in Triton."""
