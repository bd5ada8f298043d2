"""Pairs the images of a user's folders by file stem."""

from collections.abc import Mapping
from pathlib import Path

from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import SUFFIXES


def images_by_stem(path: str, option: str) -> dict[str, Path]:
    """The images of a folder, or the one image a path names, by file stem in the order of their names.

    Args:
        path: A folder or an image.
        option: What the user calls it, for the error.

    Raises:
        UserError: If there is no such path, no image in it, or two images share a stem.
    """
    place = Path(path)
    if place.is_file():
        return {place.stem: place}
    if not place.is_dir():
        raise UserError(f"{option} {path}: there is no such file or folder")
    try:
        files = sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    except PermissionError as error:
        raise UserError(f"{option} {path} cannot be listed: you lack the permission") from error
    if not files:
        raise UserError(f"{option} {path} holds no images ({', '.join(sorted(SUFFIXES))})")
    found: dict[str, Path] = {}
    for file in files:
        if file.stem in found:
            raise UserError(f"{option} {path} holds both {found[file.stem].name} and {file.name}: keep one of them")
        found[file.stem] = file
    return found


def pair_by_stem(sources: Mapping[str, str]) -> dict[str, dict[str, Path]]:
    """Pair the images of several places by file stem.

    Two single images belong together whatever they are called; the pair then has the first one's stem.

    Args:
        sources: What the user calls each place (``--source-a``) and its path.

    Returns:
        Stem to the path in each place, in the order of the first place's names.

    Raises:
        UserError: If a place cannot be read or an image has no partner; all of those are named.
    """
    found = {option: images_by_stem(path, option) for option, path in sources.items()}
    if all(Path(path).is_file() for path in sources.values()):
        files = {option: next(iter(images.values())) for option, images in found.items()}
        return {next(iter(files.values())).stem: files}
    stems = list(dict.fromkeys(stem for images in found.values() for stem in images))
    alone = [
        f"{stem} is missing in {option} {sources[option]}"
        for stem in stems
        for option, images in found.items()
        if stem not in images
    ]
    if alone:
        raise UserError(f"images are paired by file stem, but {'; '.join(alone)}")
    return {stem: {option: images[stem] for option, images in found.items()} for stem in stems}
