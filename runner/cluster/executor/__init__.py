"""What runs inside a worker process; it imports no engine, no flow and no store."""
