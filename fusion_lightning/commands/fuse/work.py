"""What fusing has in common whatever the sources are: one pair at a time, recorded, never overwriting another's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from fusion_lightning.batch import Controls, FusionBatch, SampleDegradation, pictures, require_finite, to_device
from fusion_lightning.commands.aligning import aligned
from fusion_lightning.commands.estimators import Estimating
from fusion_lightning.commands.manifest import Item, Journal
from fusion_lightning.commands.tiling import find_tile, fuse_in_tiles
from fusion_lightning.datamodules.pairs import Side
from fusion_lightning.errors import UserError, notice
from fusion_lightning.imaging.contact_sheet import contact_sheet
from fusion_lightning.imaging.convert import colorize, to_image, to_tensor
from fusion_lightning.imaging.io import read_stored, write_image
from fusion_lightning.imaging.windows import Window
from fusion_lightning.methods import FusionMethod, Registration
from fusion_lightning.text import printable

RESTORED = ("restored_a", "restored_b", "weight")
PARTS = ("", *RESTORED, "trajectory")
"""Folders of results under the output folder; the fusion itself lies at its top."""


@dataclass(frozen=True)
class Reading:
    """How the sources become a batch.

    Attributes:
        windows: Their tone windows.
        resize: The source whose size both get.
        degradation: What is known to have happened to them.
        colormap_a: The palette in which source a is drawn.
    """

    windows: tuple[Window, Window]
    resize: Side | None
    degradation: SampleDegradation
    colormap_a: str | None = None

    def batch(self, images: Mapping[str, np.ndarray], files: Mapping[str, str], name: str) -> FusionBatch:
        """Both sources (H, W, 1 or 3) as a batch of one, whose name seeds the method's noise.

        Raises:
            UserError: If both are in colour, or one is where a palette colours a.
        """
        colored = [side for side, image in images.items() if image.shape[2] == 3]
        if len(colored) > 1:
            raise UserError(
                f"{files['a']} and {files['b']} are both in colour, but only one source may be: convert one to grey"
            )
        drawn = dict(images)
        if self.colormap_a is not None:
            if colored:
                file = files[colored[0]]
                raise UserError(f"{file} is in colour, but --colormap-a colours a grey source: leave it out")
            drawn["a"] = colorize(images["a"], self.colormap_a)
        a, b = (to_tensor(drawn[side])[None] for side in "ab")
        return FusionBatch(source_a=a, source_b=b, clean_a=a, clean_b=b, degradation=[self.degradation], name=[name])


@dataclass(frozen=True)
class Job:
    """The method, how it fuses, and where the results go.

    Attributes:
        method: What fuses.
        controls: The user's knobs.
        bf16: Whether its networks run in bfloat16.
        tile: Side of the tiles; 0 is the whole image, None decides by the free memory.
        bits: 8 or 16 per channel of the results.
        restored: Whether the restored sources are wanted, too.
        trajectory: Whether the steps of a diffusion are wanted, too.
        overwrite: Whether results that exist are replaced.
        folder: Where the results go.
        recipe: What decides the results, for the record.
        estimating: What finds out the degradation of sources that it is not declared of.
        registration: What brings source a into the frame of b before all else.
    """

    method: FusionMethod
    controls: Controls
    bf16: bool
    tile: int | None
    bits: Literal[8, 16]
    restored: bool
    trajectory: bool
    overwrite: bool
    folder: Path
    recipe: Mapping[str, Any]
    estimating: Estimating | None = None
    registration: Registration | None = None

    def fuse(self, batch: FusionBatch) -> dict[str, np.ndarray]:
        """The images that are wanted of one pair, by the folder they go to; the fusion's is empty."""
        prepared, remarks = self.prepared(batch)
        for remark in remarks:
            print(f"{printable(batch['name'][0])}: {remark}")
        return self.fuse_prepared(prepared)

    def prepared(self, batch: FusionBatch) -> tuple[FusionBatch, list[str]]:
        """One pair as the method sees it, aligned and with its degradation found out, and what that gave."""
        remarks = []
        if self.registration:
            batch, remark = aligned(self.registration, batch)
            remarks.append(remark)
        if self.estimating:
            batch, remark = self.estimating(batch)
            remarks.append(remark)
        return batch, remarks

    def fuse_prepared(self, batch: FusionBatch) -> dict[str, np.ndarray]:
        """The images that are wanted of a pair that the method sees as it is."""
        side = None if self.trajectory else find_tile(self.tile, self.method, batch)
        if side is not None and self.method.sees_whole_image:
            notice(
                f"{batch['name'][0]}: fused in tiles of {side} pixels. {type(self.method).__name__} looks at the whole "
                "image, so the result differs from that of --tile 0"
            )
        images = fuse_batch(self.method, batch, self.controls, self.bf16, side, self.bits)
        if self.registration:
            images.setdefault("restored_a", to_image(batch["source_a"][0], self.bits))
        wanted = {
            part: images[part] for part in RESTORED if part in images and (self.restored or "fused" not in images)
        }
        steps = self.method.trajectory_sheet(to_device(batch, self.method.device)) if self.trajectory else None
        if steps is not None:
            wanted["trajectory"] = contact_sheet(*steps, 256)
        return {"": images["fused"], **wanted} if "fused" in images else wanted


@torch.inference_mode()
def fuse_batch(
    method: FusionMethod,
    batch: FusionBatch,
    controls: Controls | None = None,
    bf16: bool = False,
    tile: int | None = None,
    bits: Literal[8, 16] = 8,
) -> dict[str, np.ndarray]:
    """Fuse one pair (a batch of one), whole or in tiles; images of 8 or 16 bits, grey without a source in colour.

    Raises:
        UserError: If the result holds NaN or Inf.
    """
    colored = batch["source_a"].shape[1] == 3 or batch["source_b"].shape[1] == 3
    with torch.autocast(method.device.type, dtype=torch.bfloat16, enabled=bf16):
        if tile is None:
            output = method(to_device(batch, method.device), controls)
        else:
            output = fuse_in_tiles(method, batch, controls, tile)
    require_finite(output, batch["name"])
    images = {}
    for part, value in pictures(output).items():
        grey = part == "fused" and not colored and value.shape[1] == 3
        images[part] = to_image(value[0].mean(dim=0, keepdim=True) if grey else value[0], bits)
    return images


class Sources(Protocol):
    """Pairs of sources, by number."""

    names: list[str]
    """What their results are called, below the output folder."""

    def sources(self, index: int) -> dict[str, Any]:
        """What a pair is made of, for the record."""


class Pairs(Sources, Protocol):
    """Pairs of images, by number, each as a batch of one; read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> FusionBatch: ...


class Work:
    """The record of what becomes of pairs of sources, and what an earlier run of the same command has left of them.

    Args:
        job: How they are fused.
        sources: The pairs.
        suffix: What the names of the results end in.

    Raises:
        UserError: If a result of anything else is there.
    """

    def __init__(self, job: Job, sources: Sources, suffix: str = ".png") -> None:
        self._job = job
        self.journal = Journal(job.folder / "fuse.jsonl")
        names = sources.names
        self.items: list[Item] = [
            {"name": name, "sources": sources.sources(index), **job.recipe} for index, name in enumerate(names)
        ]
        self.left = [index for index, item in enumerate(self.items) if job.overwrite or not self.done(item, suffix)]

    def done(self, item: Item, suffix: str) -> bool:
        """Whether an earlier run has finished an item.

        Raises:
            UserError: If a result of that name is there which is not that item's.
        """
        folder, earlier = self._job.folder, self.journal.items.get(item["name"])
        files = (earlier or {}).get("files", [])
        ours = earlier is not None and {**earlier, "files": None} == {**item, "files": None}
        if ours and files and all((folder / file).exists() for file in files):
            return True
        for part in PARTS:
            path = folder / part / f"{item['name']}{suffix}"
            if path.exists() and not (ours and path.relative_to(folder).as_posix() in files):
                raise UserError(f"{path} is already there: choose another --output, or add --overwrite")
        return False

    def begin(self) -> None:
        """Forget what is done anew; the output folder is kept for this process."""
        again = {self.items[index]["name"] for index in self.left}
        self.journal.keep({name: item for name, item in self.journal.items.items() if name not in again})

    def record(self, index: int, files: Sequence[Path]) -> None:
        """Write down the results of a pair before they are written: a file that is there then was written as it says.

        Args:
            index: The number of the pair.
            files: Below the output folder.
        """
        for path in files:
            (self._job.folder / path).unlink(missing_ok=True)
        self.journal.add({**self.items[index], "files": [path.as_posix() for path in files]})

    def fuse_images(self, pairs: Pairs, unit: str) -> None:
        """Fuse what is left of pairs of images."""
        self.begin()
        with progress(unit) as bar:
            for index in bar.track(self.left, description="fusing"):
                images = self._job.fuse(pairs[index])
                paths = [Path(part) / f"{pairs.names[index]}.png" for part in images]
                self.record(index, paths)
                for path, image in zip(paths, images.values(), strict=True):
                    write_image(self._job.folder / path, image)

    def assemble(self, item: Item, suffix: str, write: Callable[[Path, list[Path]], None]) -> None:
        """Make one file of all images of every part of the results, and remove them.

        Args:
            item: What the whole is, under its name.
            suffix: What its name ends in.
            write: Writes a file from images.
        """
        folder, names = self._job.folder, [one["name"] for one in self.items]
        there = self.journal.items[names[0]]["files"]
        images = {
            Path(part) / f"{item['name']}{suffix}": [folder / part / f"{name}.png" for name in names]
            for part in PARTS
            if (Path(part) / f"{names[0]}.png").as_posix() in there
        }
        for path in images:
            (folder / path).unlink(missing_ok=True)
        self.journal.add({**item, "files": [path.as_posix() for path in images]})
        for path, files in images.items():
            write(folder / path, files)
        for files in images.values():
            for file in files:
                file.unlink()
            if not any(files[0].parent.iterdir()):
                files[0].parent.rmdir()
        self.journal.keep({name: one for name, one in self.journal.items.items() if name not in set(names)})

    def written(self, name: str) -> list[Path]:
        """The files of the results of one of the names, as recorded."""
        # read again: a volume or a video is recorded by a work of its own
        recorded = Journal(self.journal.path).items[name]
        return [self._job.folder / file for file in recorded["files"]]

    def outcome(self, name: str) -> str:
        """What became of one of the names, for the last line: ``fused``, or ``restored`` without a fusion."""
        fusion = f"{self._job.folder / name}."
        return "fused" if any(str(path).startswith(fusion) for path in self.written(name)) else "restored"

    @property
    def there(self) -> str:
        """How many results were there already, for the last line; empty when none was."""
        count = len(self.items) - len(self.left)
        return f" ({count} were there already)" if count else ""


def read_written(path: Path) -> np.ndarray:
    """An image as it was written: (H, W) or RGB (H, W, 3), uint8 or uint16."""
    return read_stored(str(path), as_suv=False).pixels


class _Speed(ProgressColumn):
    """So many a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """The speed, once it is known."""
        return Text("" if not task.speed else f"{task.speed:.1f} {self._unit}s/s", style="progress.data.speed")


@contextmanager
def progress(unit: str) -> Iterator[Progress]:
    """A progress bar that says how many pairs, frames or slices a second are done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, _Speed(unit), TimeRemainingColumn()) as bar:
        yield bar
