"""What a sync response says: decisions only."""
