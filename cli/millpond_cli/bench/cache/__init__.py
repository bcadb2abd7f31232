"""The cache's look-ups beside GPTCache's, over the same entries."""
