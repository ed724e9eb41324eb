"""The deterministic simulator: whole nodes, workers and clients, their clocks, network and disks, in one thread from one seed.

Start reading at world.py.
"""
