"""Prepares the interpreters in which snippets run as programs of their own.

Their clients go to the daemon under test, and what the reader would have written is built in.
"""

import builtins
import os

if "SNIPPET_ENDPOINT" in os.environ:
    from tests.docs.redirect import redirected

    redirected(os.environ["SNIPPET_ENDPOINT"])
    builtins.extract_total = lambda document: b"total of " + document
