"""What is known: papers from four public services, merged, kept on disk and shown as data."""
