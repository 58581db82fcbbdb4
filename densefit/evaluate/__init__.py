"""Published protocols and measurements, one module each."""
