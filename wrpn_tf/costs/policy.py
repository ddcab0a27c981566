"""What is counted of the first and the last layer."""

from typing import Literal

Policy = Literal["integer", "paper", "uniform", "interior"]
