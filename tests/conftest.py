"""What all tests share."""

import functools

from absl import flags

# Programs of benchmarks/ have flags of equal names; one process of the tests imports several.
_initialize = flags.Flag.__init__


@functools.wraps(_initialize)
def _overriding(self, *args, **kwargs):
    _initialize(self, *args, **kwargs)
    self.allow_override = True


flags.Flag.__init__ = _overriding
