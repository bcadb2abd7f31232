"""The batcher's own plan on engines that are only computed: what requests would meet, and on how many replicas."""
