"""DDFM: fusing by an unconditional diffusion, tied to both sources by an EM step."""

from typing import Any

from torch import Tensor

from fusion_lightning.diffusion.denoising import Guide
from fusion_lightning.diffusion.likelihood import Expectation, Likelihood
from fusion_lightning.errors import check_choice
from fusion_lightning.methods.prior_fusion import PriorFusion


class DDFM(PriorFusion):
    """Samples from the prior; each clean estimate becomes that of one EM step of a Laplacian likelihood.

    Args:
        likelihood: ``released``, the public code's weights, which end at the average of the sources, or ``paper``,
            which ends near one of them.
        update_scales: Whether the likelihood's scales follow the estimates; fixed at 1 otherwise.
        smoothness: ψ, weight of the squared gradient of f − b in ``paper``.
        penalty: η, how strongly f is held to its smoothed copy in ``paper``.
        **options: Those of `PriorFusion`.

    Raises:
        UserError: If an argument is out of its range.
    """

    implied = True

    def __init__(
        self,
        likelihood: Expectation = "released",
        update_scales: bool = True,
        smoothness: float = 0.5,
        penalty: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_choice("likelihood", likelihood, Expectation)
        self.likelihood: Expectation = likelihood
        self.update_scales, self.smoothness, self.penalty = update_scales, smoothness, penalty

    def guide(self, a: Tensor, b: Tensor) -> Guide:
        """One EM step per estimate; the scales are carried along."""
        return Likelihood(a, b, self.likelihood, self.update_scales, self.smoothness, self.penalty)
