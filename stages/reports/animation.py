"""An animation of a drag, from the image to the edited one, as WebP.

Its frames are pictures that the stages made, and the image with the paths drawn on it: nothing
between two pictures is invented. The one thing that no stage made is the cross-fade to the edited
image, and its caption says so.

    the image       with an arrow for each drag
    step n of m     the image, and where each handle was after a step of the drag; at most `MOST`
                    steps are shown, evenly chosen. A method that moves content in the picture puts
                    it there at once, and so has one step
    moved           what such a method made of the picture, before its holes are painted
    cross-fade      the last of these pictures fading into the edited image
    the result      the edited image
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.browsing import MadeEdit
from stages.pipeline import TRACKER
from stages.reports.tiles import drag_tile, path_tile
from stages.stage import Look

LONGEST = 512
"""Longest side of a frame, in pixels, without its caption."""
MOST = 48
"""Steps that are shown, at most."""
CAPTION = 24
FADE = 8
"""Frames of the cross-fade."""
LONG, SHORT, FLASH = 1200, 60, 40
"""Milliseconds that frames are shown: pictures, steps, and those of the cross-fade."""
_INK, _PAPER = (240, 240, 240), (24, 24, 24)


class Frame(NamedTuple):
    """A frame of an animation.

    Attributes:
        milliseconds: how long it is shown.
    """

    picture: Image.Image
    caption: str
    milliseconds: int


def frames(made: MadeEdit) -> list[Frame]:
    """Return the frames of an edit's animation, in order.

    Raises:
        NotMade: if the drag or the edited image is not there.
        InvalidEdit: if the image cannot be read any more.
    """
    look, dragged = made.look(LONGEST), made.read(TRACKER.name)
    last = drag_tile(made.image, (), look.longest)
    begun = [
        Frame(drag_tile(look.pixels, look.edit.drags, look.longest), "the image", LONG),
        *_steps(look, dragged["tracks"]),
        *_pictures(look, dragged),
    ]
    shares = np.linspace(0, 1, FADE + 2)[1:-1]
    fading = [
        Frame(Image.blend(begun[-1].picture, last, share), "cross-fade to the result", FLASH)
        for share in shares
    ]
    return [*begun, *fading, Frame(last, "the result", 2 * LONG)]


def _steps(look: Look, tracks: np.ndarray[Any, Any]) -> Iterator[Frame]:
    """Draw where the handles were after some steps; the last one is shown longer."""
    last = len(tracks) - 1
    for step in np.unique(np.linspace(min(1, last), last, MOST).round().astype(int)):
        if step:
            until = tracks[: step + 1]
            picture = path_tile(look.pixels, until, look.edit.drags, look.frame, look.longest)
            yield Frame(picture, f"step {step} of {last}", LONG if step == last else SHORT)


def _pictures(look: Look, dragged: Mapping[str, Any]) -> Iterator[Frame]:
    """Draw what the drag made of the picture, if it is of a method that does."""
    for tile in TRACKER.tiles:
        if tile.is_optional and tile.part in dragged:
            yield Frame(tile.draw(dragged[tile.part], look), tile.title, LONG)


def write_animation(shown: Sequence[Frame], path: Path) -> None:
    """Write frames as an animated WebP that repeats.

    Raises:
        OSError: if the file cannot be written.
    """
    first, *others = (_captioned(frame) for frame in shown)
    times = [frame.milliseconds for frame in shown]
    first.save(
        path, "WEBP", save_all=True, append_images=others, duration=times, loop=0, quality=85
    )


def _captioned(frame: Frame) -> Image.Image:
    """Return the picture of a frame over its caption."""
    width, height = frame.picture.size
    whole = Image.new("RGB", (width, height + CAPTION), _PAPER)
    whole.paste(frame.picture, (0, 0))
    ImageDraw.Draw(whole).text((8, height + 4), frame.caption, _INK, ImageFont.load_default(14))
    return whole
