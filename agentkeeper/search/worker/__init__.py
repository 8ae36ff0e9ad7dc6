"""The process that turns texts into vectors, beside the daemon.

What it is for: a model's libraries take hundreds of megabytes, and seconds to import, and block
whoever calls them; so they live in a process of low priority that may die. `process` is the
daemon's side, `__main__` the process itself, `frames` what they say to each other, and `cache` what
makes a text free the second time.

What it is not: it knows no agents, only texts, and the daemon's side imports no numpy: vectors are
bytes there.
"""
