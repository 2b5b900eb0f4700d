"""The homeserver: requests, encryption, messages."""
