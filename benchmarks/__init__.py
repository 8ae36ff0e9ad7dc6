"""Figures of the product, measured over real processes. Each module is a command."""
