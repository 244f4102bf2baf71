"""Benchmarks: what foreman costs, beside a direct call of the same run. Nothing here is a test."""
