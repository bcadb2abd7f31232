"""What benchmarks run beside the command line."""
