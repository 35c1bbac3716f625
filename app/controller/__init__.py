"""The control loop: events in, configuration out."""
