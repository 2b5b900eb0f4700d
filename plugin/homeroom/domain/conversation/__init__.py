"""What is asked and answered in a chat: decisions only."""
