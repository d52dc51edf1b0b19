"""Samples and how they become rows: containers, loading, stacking, layouts and memory.

The same code runs in every process and thread that loads, so that the results are the same.
"""
