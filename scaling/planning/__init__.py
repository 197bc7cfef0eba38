"""Estimates before training: parameters, FLOPs, memory, time, on which hardware."""
