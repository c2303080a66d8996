"""Measures models. Every figure of a card comes from here.

The test part is used once, after everything was chosen.
"""

from zoo.evaluation.measurement import evaluate
from zoo.evaluation.parts import learnt_from
from zoo.evaluation.protocols import MEASURING, PROTOCOLS
from zoo.evaluation.verification import verify

__all__ = ["MEASURING", "PROTOCOLS", "evaluate", "learnt_from", "verify"]
