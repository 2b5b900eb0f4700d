"""Speed, as a comparison: things side by side in one run, on the same machine.

Absolute times say something about one machine on one day; what counts are the ratios. `look`
measures a start, `messages` a message, `turns` an agent's turn; `world` makes the homeservers
that `look` needs.
"""
