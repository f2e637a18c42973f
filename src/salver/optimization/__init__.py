"""`salver optimize`: makes faster variants of a model, measures them, and uses one if it is faithful.

Nothing else of Salver imports this package: what it leaves is a variant in the cache
(`salver.models.variants`), which replicas find without it.
"""
