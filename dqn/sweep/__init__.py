"""Sweeps: many runs from one command, grouped into populations and trained by executors."""
