"""Erasers: one method a file, one protocol."""

from shiftreg.erasers.base import Eraser, Erasure, JointEraser
from shiftreg.erasers.closed_form import ClosedForm, imitate, predict_capacity
from shiftreg.erasers.concept_ablation import ConceptAblation
from shiftreg.erasers.esd import Esd
from shiftreg.erasers.forget_me_not import ForgetMeNot
from shiftreg.erasers.hardened import ClosedFormHardened
from shiftreg.erasers.model import NoiseModel, PromptModel, Step, TrainingData, Words
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.erasers.speed import SpeedLike
from shiftreg.erasers.srs_me import SrsMe
from shiftreg.erasers.srs_me_free import SrsMeFree
from shiftreg.erasers.srs_me_joint import SrsMeJoint
from shiftreg.erasers.uce import Uce
