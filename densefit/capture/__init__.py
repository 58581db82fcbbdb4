"""What the cameras saw: takes, pictures by presentation time, and one timeline for all cameras."""
