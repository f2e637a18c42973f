"""The live account: what was answered, what turned out to be true, and whether promises hold."""
