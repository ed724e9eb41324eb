"""Mutants: the program with one protection switched off, to prove that the simulator would find out.

A test that has never failed proves little. Here each protection is switched off, one at a time, and the simulator must see a
promise fall; with the protection on, the same world under the same seed must be sound. hunt.py does that, catalogue.py lists
the mutants; the other files hold them by theme, with the worlds that they need.
"""
