"""One server script per rival, run in the rival's own environment; each imports that rival alone."""
