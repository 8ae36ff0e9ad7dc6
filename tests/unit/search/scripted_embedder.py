"""An embedder that does what its texts say, for tests of the process around it."""

import fcntl
import os
import random
import signal
import stat
import sys
import time
from array import array
from pathlib import Path

import numpy as np

from agentkeeper.search.model.embedder import ModelError

DIMENSION = 8


def vector_of(text):
    numbers = random.Random(text).choices(range(-100, 100), k=DIMENSION)
    return array("f", numbers).tobytes()


class ScriptedEmbedder:
    """`log TEXT` in the file `log` of its directory tells what it was asked, in order."""

    def __init__(self, files):
        self._directory = files.directory
        self.model_id = files.weights.read_text()
        self.dimension = DIMENSION

    def embed(self, text):
        with (self._directory / "log").open("a") as log:
            log.write(text + "\n")
        order, _, argument = text.partition(" ")
        match order:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                print("cannot go on", file=sys.stderr, flush=True)
                os._exit(3)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "wait":
                wait_for(self._directory / argument)
            case "raise":
                raise ValueError(argument)
            case "short":
                return np.zeros(DIMENSION - 1, np.float32)
            case "infinite":
                return np.full(DIMENSION, np.inf, np.float32)
            case "void":
                return np.zeros(DIMENSION, np.float32)
            case "full":
                raise MemoryError("no more")
            case "print":
                print("from Python", flush=True)
                os.write(1, b"from below")
                os.read(0, 100)
            case "garbage":
                write_to_parent(bytes.fromhex(argument))
        return np.frombuffer(vector_of(text), np.float32)


def load(files):
    instructions = files.directory / "on_load"
    if instructions.exists():
        match instructions.read_text():
            case "refuse":
                raise ModelError("no such model")
            case "die":
                os._exit(1)
            case "wait":
                wait_for(files.directory / "go")
    return ScriptedEmbedder(files)


def wait_for(path: Path):
    while not path.exists():
        time.sleep(0.005)


def write_to_parent(data):
    """Into every pipe that is open for writing but the standard ones: there is one."""
    for number in range(3, 20):
        try:
            mode = os.fstat(number).st_mode
            writable = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        except OSError:
            continue
        if stat.S_ISFIFO(mode) and writable:
            os.write(number, data)
