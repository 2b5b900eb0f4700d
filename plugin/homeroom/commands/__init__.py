"""What people ask for with a command that begins with `!`."""
