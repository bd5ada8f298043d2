"""Fixtures that every test may use."""

from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real pairs, published results and golden tables; users do not have it."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real pairs in ../shared, which are not distributed")
    return SHARED


@pytest.fixture(autouse=True)
def _one_thread_and_a_fixed_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
