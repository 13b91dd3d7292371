"""Environments as functions of tensors: all of a population's are stepped at once, on the device that learns."""
