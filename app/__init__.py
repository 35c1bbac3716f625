"""Who may do what, and who is asking: the control plane around ``xds``."""
