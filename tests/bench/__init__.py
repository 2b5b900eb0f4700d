"""Speed, as a comparison: two things side by side in one run, on the same machine.

Absolute times say something about one machine on one day; what counts are the ratios.
"""
