"""Tasks, time, retries and limits: nothing of Matrix, nothing of homes."""
