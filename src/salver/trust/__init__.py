"""Confidence, novelty and promises: fitted on held-out rows, applied in the pipeline."""
