"""Linear operators y = A x of degradations, with adjoint and pseudo-inverse.

Operators act on images (B, C, H, W) of any value range, every channel alike, differentiably. `from_degradations` builds
the one that belongs to a sample's recorded degradation, `from_batch` one for a batch whose samples differ.
"""

from fusion_lightning.operators.blur import DEFAULT_RHO, Blur, Padding
from fusion_lightning.operators.build import from_batch, from_degradations, without_operator
from fusion_lightning.operators.correction import Observation, Projection, correct
from fusion_lightning.operators.downsample import Downsample
from fusion_lightning.operators.linear import Compose, Identity, LinearOperator, PerSample

__all__ = [
    "DEFAULT_RHO",
    "Blur",
    "Compose",
    "Downsample",
    "Identity",
    "LinearOperator",
    "Observation",
    "Padding",
    "PerSample",
    "Projection",
    "correct",
    "from_batch",
    "from_degradations",
    "without_operator",
]
