"""Figures of a local cluster of real processes: `python -m benchmarks`.

They depend on the machine and on what else it does. What is to be compared is measured in turns
within one run; compare ratios, and medians over runs.
"""
