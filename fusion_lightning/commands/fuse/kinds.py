"""What is fused: images, volumes, folders of frames, or videos."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from fusion_lightning.commands.fuse.frames import Film, Frames, is_video
from fusion_lightning.commands.fuse.images import SourcePairs
from fusion_lightning.commands.fuse.volumes import Volumes, holds_volumes
from fusion_lightning.commands.fuse.work import Job, Reading
from fusion_lightning.datamodules.pairing import pair_images
from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.imaging.video import Form, Sync
from fusion_lightning.imaging.volumes import Axis


class Kind(Protocol):
    """Sources of one kind, and how they are fused."""

    files: list[Path]

    def fuse(self, job: Job) -> None:
        """Fuse all of them into the job's folder."""


def find_sources(
    places: Mapping[str, str],
    reading: Reading,
    axis: Axis | None,
    frames: str | None,
    sync: Sync | None,
    video: Form | None,
) -> Kind:
    """The sources: images, volumes, folders of frames, or videos.

    Raises:
        UserError: If there are none, or an option is for another kind.
    """
    are_videos = any(map(is_video, places.values()))
    are_volumes = axis is not None or any(map(holds_volumes, places.values()))
    if sync is not None:
        check_choice("--sync", sync, Sync)
    if (sync is not None or video is not None) and not are_videos:
        raise UserError("--sync and --video are for two videos: leave them out")
    if axis is not None:
        check_choice("--axis", axis, Axis)
    if are_volumes and (are_videos or frames is not None):
        raise UserError("--axis is for volumes, and --frames for videos and folders of frames: leave one of them out")
    if are_videos:
        check_choice("--video", video or "mp4", Form)
        return Film(places, reading, frames, sync, video or "mp4")
    if are_volumes:
        return Volumes(places, reading, axis or "axial")
    if frames is not None:
        return Frames(places, reading, frames)
    return SourcePairs(pair_images(places), reading)
