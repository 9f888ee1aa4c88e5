"""The benchmarks behind the goals for speed and memory: `make bench`. Not a part of what is installed."""
