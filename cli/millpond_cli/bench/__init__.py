"""What benchmarks run beside the command line; `rounds.py` is how those that compare contenders measure."""
