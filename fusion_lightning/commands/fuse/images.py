"""Pairs of image files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion_lightning.batch import FusionBatch
from fusion_lightning.commands.fuse.work import Job, Reading, Work
from fusion_lightning.commands.manifest import digest
from fusion_lightning.datamodules.check import check_pairs
from fusion_lightning.datamodules.pairs import read_sources
from fusion_lightning.files import alone_in
from fusion_lightning.text import counted


class SourcePairs:
    """Pairs of image files.

    Args:
        pairs: Name -> the files of both sources.
        reading: How they are read.
    """

    def __init__(self, pairs: Mapping[str, Mapping[str, Path]], reading: Reading) -> None:
        self.names = list(pairs)
        self.files = [path for files in pairs.values() for path in files.values()]
        self._files = [dict(zip("ab", map(str, files.values()), strict=True)) for files in pairs.values()]
        self._reading = reading

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> FusionBatch:
        """Read one pair.

        Raises:
            UserError: If it cannot be used.
        """
        files = self._files[index]
        images = read_sources(files, self._reading.windows, self._reading.resize)
        return self._reading.batch(images, files, self.names[index])

    def sources(self, index: int) -> dict[str, Any]:
        """The files of a pair."""
        return {side: {"path": path, "sha256": digest(Path(path))} for side, path in self._files[index].items()}

    def fuse(self, job: Job) -> None:
        """Fuse all of them; they are read before anything is written."""
        work = Work(job, self)
        check_pairs(self)
        with alone_in(job.folder):
            work.fuse_images(self, "pair")
        print(f"{counted(len(self), 'pair')} {work.outcome(self.names[0])} into {job.folder}{work.there}")
