"""The model that turns texts into vectors: found on this machine, loaded, checked.

What it is for: `locate` says which model's files a daemon is to use, without loading anything
heavy; `embedder` loads them, with one of two runtimes; `export` makes a small fast file of a large
model, and `install` puts a model where `locate` finds it, both only when somebody asks.

What it is not: nothing here reaches for a hub of models, ever, and nothing but `install` reaches
for the network at all. Code that comes with a model is never run.
"""
