"""Where weights come from: checkpoints, lazy references to them, and MLflow.

`checkpoint` and `reference` are light and what users meet; `tracking` asks MLflow's store and
fills the `cache`; `resolve` is the process in which that happens, so that a server need not.
"""
