"""Speed, as a comparison: Homeroom's start beside the bare requests and beside other ways to look.

`./build.sh bench` populates a real Synapse (kept in `.bench/` and used again), runs every way in
turn, several times, and prints medians, spread and ratios. Absolute times say something about
one machine on one day; what counts are the ratios of one run.
"""
