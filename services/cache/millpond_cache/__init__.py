"""The cache: admits each request, answers it from what models said before, or sends it on."""
