"""Attacks: can an erased concept be made to appear again? One method a file.

What they find is generated and classified by ``api.attacks``.
"""

from shiftreg.attacks.base import Attack, AttackResult, Start, Surface
from shiftreg.attacks.closed_form import ClosedFormEmbedding
from shiftreg.attacks.concept_inversion import ConceptInversion
from shiftreg.attacks.probes import CompletionProbe, NoiseProbe
from shiftreg.attacks.relearning import Relearning
from shiftreg.attacks.ring_a_bell import RingABell, RingABellSoft
from shiftreg.attacks.unlearn_diff_atk import UnlearnDiffAtk
