"""How near do registrations come? Aligned pairs, source a moved by a known affine map.

    python benchmarks/registration.py --source-a DIR --source-b DIR --registration NAME --parts 1 0.25 0

The map turns by up to 4 degrees, scales by up to 6 % and shifts by up to 12 pixels along x and y, all times a part.
Prints, as markdown, mean end-point errors in pixels over what stays in the image: as it was moved, without the rule of
trust (of networks after every look), and as `fuse --align` leaves it.
"""

import argparse

import cv2
import numpy as np
import torch
from torch import Tensor

from fusion_lightning.commands.aligning import CLASSICAL, open_registration
from fusion_lightning.datamodules.pairing import pair_images
from fusion_lightning.datamodules.pairs import read_sources
from fusion_lightning.imaging import warps
from fusion_lightning.imaging.color import rgb_to_luma
from fusion_lightning.imaging.convert import to_float, to_tensor
from fusion_lightning.imaging.registration import edge_pyramid, register
from fusion_lightning.imaging.windows import Window
from fusion_lightning.methods import Registration, RegistrationNet
from fusion_lightning.metrics.functional import epe

LOOKS = 3
"""So many looks of a network are printed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source-a", required=True, help="a folder or a pattern")
    parser.add_argument("--source-b", required=True)
    parser.add_argument("--registration", default=CLASSICAL, help="what `fuse --align` takes")
    parser.add_argument(
        "--parts", type=float, nargs="+", default=[1.0], help="of the motion; 0 leaves pairs as they are"
    )
    parser.add_argument("--every", type=int, default=1, help="every so many pairs, from the first on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    registration = open_registration(options.registration).eval()
    found = pair_images({"--source-a": options.source_a, "--source-b": options.source_b})
    pairs = [dict(zip("ab", map(str, files.values()), strict=True)) for files in list(found.values())[:: options.every]]
    looks = LOOKS if isinstance(registration, RegistrationNet) else 1
    raw = [f"look {number + 1}" for number in range(looks)] if looks > 1 else ["raw"]
    print(
        "| part | pairs | before |", " | ".join(raw), "| worst | trusted | median | kept | worst kept | worse by > 1 |"
    )
    print("| ---: " * (9 + looks), "|", sep="")
    for part in options.parts:
        generator = np.random.default_rng(options.seed)
        rows, kept = zip(*(errors(registration, files, part, generator) for files in pairs), strict=True)
        print(summary(part, np.array(rows), np.array(kept)), flush=True)


@torch.inference_mode()
def errors(
    registration: Registration, files: dict[str, str], part: float, generator: np.random.Generator
) -> tuple[list[float], bool]:
    """Errors of a pair: before, without trust, and as it is left; and whether it is moved."""
    images = read_sources(files, (Window(), Window()))
    a, b = (to_float(images[side]) for side in "ab")
    matrix = random_map(generator, a.shape[:2], part) if part else np.eye(2, 3)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(a, matrix, a.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    one, other = (to_tensor(image.reshape(like.shape))[None] for image, like in ((moved, a), (b, b)))
    inverse = torch.from_numpy(cv2.invertAffineTransform(matrix))[None].float()
    known = warps.from_affine(inverse, (b.shape[0], b.shape[1]))
    left, (refused,) = registration.find_warps(one, other)
    still = warps.identity((b.shape[0], b.shape[1]), known)
    tried = [still, *untrusted(registration, rgb_to_luma(one), rgb_to_luma(other)), left]
    return [epe(warp, known).item() for warp in tried], refused is None


def random_map(generator: np.random.Generator, shape: tuple[int, ...], part: float) -> np.ndarray:
    """A random affine map (2, 3) about the middle of an image (H, W)."""
    turn, scale = np.radians(generator.uniform(-4, 4) * part), 1 + generator.uniform(-0.06, 0.06) * part
    shift = generator.uniform(-12, 12, 2) * part
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    return np.column_stack((linear, middle - linear @ middle + shift))


def untrusted(registration: Registration, a: Tensor, b: Tensor) -> list[Tensor]:
    """What is found in lumas (1, 1, H, W), trusted or not: by a network after every look."""
    size = (b.shape[-2], b.shape[-1])
    if not isinstance(registration, RegistrationNet):
        matrix, _ = register(*(edge_pyramid(luma[0, 0].numpy()) for luma in (a, b)))
        return [warps.from_affine(torch.from_numpy(matrix)[None].float(), size)]
    return [found for found, _ in registration.refine(a, b, LOOKS)]


def summary(part: float, rows: np.ndarray, kept: np.ndarray) -> str:
    """A row of the table."""
    means, left = [f"{mean:.2f}" for mean in rows.mean(axis=0)], rows[:, -1]
    cells = [f"{part:g}", f"{len(rows)}", *means[:-1], f"{rows[:, -2].max():.1f}", means[-1], f"{np.median(left):.2f}"]
    cells += [f"{kept.sum()}", f"{left[kept].max():.1f}" if kept.any() else "–", f"{(left - rows[:, 0] > 1).sum()}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
