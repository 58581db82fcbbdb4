"""Dense 2D landmarks: the network, the head detector, and the stage that runs them over a take."""
