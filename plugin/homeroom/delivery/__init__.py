"""A message's way: in by sync, through its room's line, to the agent, and back."""
