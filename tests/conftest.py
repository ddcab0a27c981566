"""What all tests share."""

import functools
import random
import sys

import numpy as np
from absl import flags

# Programs of benchmarks/ have flags of equal names; one process of the tests imports several.
_initialize = flags.Flag.__init__


@functools.wraps(_initialize)
def _overriding(self, *args, **kwargs):
    _initialize(self, *args, **kwargs)
    self.allow_override = True


flags.Flag.__init__ = _overriding


def pytest_runtest_setup():
    """The same random weights in every run, whatever ran before: this comes before all fixtures."""
    random.seed(0)
    np.random.seed(0)
    for front in {"keras", "tf_keras"} & sys.modules.keys():
        sys.modules[front].utils.set_random_seed(0)
