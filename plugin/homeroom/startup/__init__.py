"""Starting, and what goes on quietly afterwards."""
