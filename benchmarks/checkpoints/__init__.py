"""What benchmarks of checkpoints are measured with: synthetic ones, the page cache, memory, and plain ways."""
