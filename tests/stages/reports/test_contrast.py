"""Text on pages can be read: contrast in light and dark is at least 4.5 (WCAG 2, level AA)."""

import re

import pytest

from stages.reports.rendering import asset

INKS = ("ink", "faint", "good", "bad", "so-so", "accent")
BLOCKS = re.findall(r":root \{(.*?)\}", asset("page.css").decode(), re.DOTALL)


def luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part < 0.04 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    bright, dark = sorted(map(luminance, (one, other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(scheme):
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", BLOCKS[scheme]))
    pairs = [(ink, paper) for ink in INKS for paper in ("paper", "back")]
    pairs.append(("on-accent", "accent"))
    low = [pair for pair in pairs if contrast(*(colors[name] for name in pair)) < 4.5]
    assert not low
