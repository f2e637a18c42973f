"""The Made With ML lesson as a real service: data, training, tagger, service.

Importing the package is cheap: torch, transformers and mlflow are imported only by the modules
and functions that need them, so that a serving front can import `madewithml.service` at once.
"""

__version__ = "0.1.0"
