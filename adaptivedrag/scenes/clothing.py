"""Clothing: shirts, dresses and coats, on a hanger or on a tailor's stand."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Self, TypeAlias

import numpy as np

from adaptivedrag.scenes.canvas import Canvas, Color, Distance, Field, Point, Shade, Shape
from adaptivedrag.scenes.room import paint_room
from adaptivedrag.scenes.scene import Anchor, Scene, SceneDrag, between, choose
from adaptivedrag.scenes.shapes import box, capsule, circle, convex, curve, ellipse, local, turned
from adaptivedrag.scenes.textures import COLORS, ball, generator, mix, pillar, tinted, waves

Figured: TypeAlias = Callable[[Field, Field], tuple[Field, Field]]

RAIL = 0.065  # height of the rail that hangers hang from
SLOPE = 0.34  # of the shoulders
CUFF = 0.026
CLOTHS = ("red", "green", "blue", "purple", "yellow", "pink", "brown", "white", "grey", "black")
TRIMS = ("white", "yellow", "red", "blue", "black", "pink")
WALLS = ("blue", "green", "grey", "pink", "yellow", "white")


@dataclass(frozen=True)
class Clothing(Scene):
    """A garment seen from the front.

    ``place`` is the middle of its shoulder line, widths are half widths. ``waist`` is the width
    toward which its sides bend; ``sleeve_lengths`` and ``sleeve_angles`` are those of the left
    and the right sleeve, angles from straight down outward; ``opening`` is how far the fronts of
    a coat lie from its middle at the hem.
    """

    kind: ClassVar[str] = "clothing"
    groups: ClassVar[tuple[str, ...]] = ("garment", "garment/sleeve")

    garment: str
    cloth: str
    trim: str
    pattern: str
    support: str
    wall: str
    floor: float
    place: Point
    tilt: float
    shoulder: float
    waist: float
    hem: float
    length: float
    neck_width: float
    neck_depth: float
    opening: float
    sleeve_lengths: tuple[float, float]
    sleeve_angles: tuple[float, float]
    sleeve_width: float

    @classmethod
    def sample(cls, random: np.random.Generator) -> Self:
        garment = choose(random, "shirt", "dress", "coat")
        support, cloth = choose(random, "hanger", "stand"), choose(random, *CLOTHS)
        shoulder = between(random, 0.135, 0.158)
        bend, flare, low, high, sleeve = {
            "shirt": (0.95, 1.05, 0.40, 0.47, 0.30),
            "dress": (0.45, 1.55, 0.52, 0.58, 0.17),
            "coat": (0.90, 1.30, 0.52, 0.57, 0.33),
        }[garment]
        sleeve *= between(random, 0.85, 1.1)
        angle = between(random, 0.40, 0.75)
        return cls(
            texture=int(random.integers(2**31)),
            garment=garment,
            cloth=cloth,
            trim=choose(random, *(trim for trim in TRIMS if trim != cloth)),
            pattern=choose(random, "stripes", "checks", "dots", "buttons"),
            support=support,
            wall=choose(random, *(wall for wall in WALLS if wall != cloth)),
            floor=between(random, 0.84, 0.89),
            place=(between(random, 0.42, 0.58), between(random, 0.20, 0.24)),
            tilt=between(random, -0.06, 0.06) if support == "hanger" else 0.0,
            shoulder=shoulder,
            waist=shoulder * bend * between(random, 0.9, 1.1),
            hem=shoulder * flare * between(random, 0.9, 1.1),
            length=between(random, low, high),
            neck_width=between(random, 0.042, 0.055),
            neck_depth=between(random, *((0.13, 0.19) if garment == "coat" else (0.06, 0.10))),
            opening=between(random, 0.005, 0.085) if garment == "coat" else 0.0,
            sleeve_lengths=(sleeve, sleeve * between(random, 0.97, 1.03)),
            sleeve_angles=(angle, angle + between(random, -0.12, 0.12)),
            sleeve_width=between(random, 0.046, 0.056),
        )

    def caption(self) -> str:
        return (
            f"a {self.cloth} {self.garment} with {self.trim} {self.pattern} "
            f"on a {self.support} before a {self.wall} wall"
        )

    def at(self, x: float, y: float) -> Point:
        """Return a point of the garment, from the middle of its shoulders, swung on the rail."""
        return turned((self.place[0] + x, self.place[1] + y), self._pivot(), self.tilt)

    def half_width(self, v: Field) -> Field:
        """Return the half width at a share ``v`` of the length."""
        v = np.clip(v, 0, 1)
        a, b, c = (1 - v) ** 2, 2 * v * (1 - v), v * v
        width = a * self.shoulder + b * self.waist + c * self.hem
        return np.maximum(width, 0.02).astype(np.float32)

    def front(self, side: int, v: float, inward: float = 0.02) -> Point:
        """Return a point near the front edge of one half of a coat, at a share of the length."""
        y = v * self.length
        return self.at(side * (float(self._gap(np.float32(y))) + inward), y)

    def sleeve(self, side: int, along: float) -> Point:
        """Return a point on the axis of a sleeve, from the shoulder to the cuff."""
        x, y = self._armhole(side)
        reach, angle = along * self._sleeve_length(side), self.sleeve_angles[side > 0]
        return self.at(x + side * reach * float(np.sin(angle)), y + reach * float(np.cos(angle)))

    def paint(self, canvas: Canvas) -> None:
        paint_room(canvas, self.texture, self.wall, self.floor)
        cloth = tinted(self.cloth, self.texture)
        self._paint_shadow(canvas)
        self._paint_support(canvas)
        for side in (-1, 1):
            self._paint_sleeve(canvas, side, cloth)
        self._paint_inside(canvas, cloth)
        self._paint_torso(canvas, cloth)
        self._paint_front(canvas, cloth)
        self._paint_collar(canvas, cloth)

    def _pivot(self) -> Point:
        return self.place[0], RAIL

    def _inside(self, x: Field, y: Field) -> tuple[Field, Field]:
        """Return the garment coordinates of scene points; see `at`."""
        u, v = local(x, y, self._pivot(), self.tilt)
        return u, v - np.float32(self.place[1] - RAIL)

    def _shape(self, distance: Distance, top: float = -0.05, bottom: float = 1.0) -> Shape:
        """Make a shape from a distance in garment coordinates, between two heights."""
        wide = max(self.shoulder, self.waist, self.hem) + 0.02
        bottom = min(bottom, self.length + 0.03)
        corners = [self.at(x, y) for x in (-wide, wide) for y in (top, bottom)]
        xs, ys = zip(*corners, strict=True)
        bounds = (min(xs), min(ys), max(xs), max(ys))
        return Shape(lambda x, y: distance(*self._inside(x, y)), bounds)

    def _armhole(self, side: int) -> Point:
        return side * self.shoulder * 0.80, SLOPE * self.shoulder + 0.85 * self.sleeve_width

    def _sleeve_length(self, side: int) -> float:
        return max(self.sleeve_lengths[side > 0], 1.5 * CUFF)

    def _torso(self, x: Field, y: Field) -> Field:
        """Return the distance to the outline without neckline and opening, in the garment."""
        width = self.half_width(y / np.float32(self.length))
        shoulders = (np.float32(SLOPE) * np.abs(x) - y) * np.float32(0.95)
        sides = (np.abs(x) - width) * np.float32(0.93)
        return np.maximum(np.maximum(sides, shoulders), y - self._hem_line(x))

    def _hem_line(self, x: Field) -> Field:
        u = x / np.float32(self.hem)
        return np.float32(self.length) + 0.005 * np.cos(12 * u) - 0.025 * u * u

    def _gap(self, y: Field) -> Field:
        """Return the half width of a coat's opening at a height of the garment."""
        down = (y - np.float32(self.neck_depth)) / np.float32(self.length - self.neck_depth)
        return np.float32(max(self.opening, 0.0)) * np.clip(down, 0, 1)

    def _hollow(self, x: Field, y: Field) -> Field:
        """Return the distance to neckline and opening, in garment coordinates."""
        wide, deep = np.float32(self.neck_width), np.float32(self.neck_depth)
        if self.garment == "dress":
            u, v = x / wide, np.maximum(y, 0) / deep
            radius = np.sqrt(u * u + v * v) + np.float32(1e-4)
            slope = np.sqrt((u / wide) ** 2 + (v / deep) ** 2)
            return radius * (radius - 1) / np.maximum(slope, np.float32(1e-3))
        notch = (np.abs(x) - wide * np.maximum(1 - y / deep, 0)) * np.float32(0.93)
        neck = np.maximum(notch, y - deep)
        if self.garment == "shirt":
            return neck
        return np.minimum(neck, np.maximum(np.abs(x) - self._gap(y), deep - y))

    def _cut(self, x: Field, y: Field) -> Field:
        return np.maximum(self._torso(x, y), -self._hollow(x, y))

    def _drape(self, purpose: int, along: float, depth: float = 0.15) -> Shade:
        """Shade hanging cloth: round, with folds that deepen toward the hem, and a weave."""
        folds, weave = waves(self.texture, purpose, 8.0, 4), waves(self.texture, 87, 60.0, 3)

        def shade(x: Field, y: Field) -> Field:
            x, y = self._inside(x, y)
            v = y / np.float32(self.length)
            u = x / self.half_width(v)
            light = 1.02 - 0.13 * u - 0.17 * u * u - 0.06 * v
            crease = depth * (0.35 + 0.65 * np.clip(v, 0, 1)) * folds(u, v * np.float32(along))
            return (light + crease + 0.035 * weave(u, v * 2)).astype(np.float32)

        return shade

    def _paint_shadow(self, canvas: Canvas) -> None:
        torso = self._shape(self._torso)
        left, top, right, bottom = torso.box
        dx, dy = np.float32(0.028), np.float32(0.022)
        shifted = Shape(
            lambda x, y: torso.distance(x - dx, y - dy),
            (left + 0.028, top + 0.022, right + 0.028, bottom + 0.022),
        )
        canvas.paint(shifted, (0.05, 0.05, 0.08), opacity=0.42, softness=0.035)
        for side in (-1, 1):
            (x0, y0), (x1, y1) = self.sleeve(side, 0.1), self.sleeve(side, 0.95)
            limb = capsule(
                (x0 + 0.024, y0 + 0.02), (x1 + 0.024, y1 + 0.02), self.sleeve_width * 0.85
            )
            canvas.paint(limb, (0.05, 0.05, 0.08), opacity=0.30, softness=0.035)

    def _paint_support(self, canvas: Canvas) -> None:
        if self.support == "hanger":
            self._paint_hanger(canvas)
        else:
            self._paint_stand(canvas)

    def _paint_hanger(self, canvas: Canvas) -> None:
        wood = mix(COLORS["brown"], (0.90, 0.70, 0.45), 0.35 + 0.1 * (self.texture % 5))
        rail = box((0.5, RAIL), 0.6, 0.011)

        def round_rod(x: Field, y: Field) -> Field:
            t = (y - np.float32(RAIL)) / np.float32(0.011)
            return (1.0 - 0.35 * t - 0.25 * t * t + 0 * x).astype(np.float32)

        canvas.paint(rail, mix(wood, (0.3, 0.2, 0.15), 0.4), "rail", round_rod)
        steel, top = (0.62, 0.63, 0.66), self.place[1] - RAIL
        hook = curve(
            self.at(0.022, -top + 0.012),
            self.at(0.012, -top - 0.045),
            self.at(-0.008, -top),
            0.006,
            0.006,
        )
        canvas.paint(hook, steel, "hanger")
        canvas.paint(capsule(self.at(-0.008, -top), self.at(0, -0.02), 0.0055), steel, "hanger")
        for side in (-1, 1):
            end = self.at(side * self.shoulder * 0.9, SLOPE * self.shoulder * 0.9 + 0.014)
            canvas.paint(capsule(self.at(0, 0.006), end, 0.017, 0.012), wood, "hanger")

    def _paint_stand(self, canvas: Canvas) -> None:
        x, ground = self.place[0], self.floor + 0.07
        canvas.paint(
            ellipse((x + 0.03, ground + 0.012), 0.13, 0.022),
            (0.04, 0.03, 0.03),
            opacity=0.5,
            softness=0.03,
        )
        wood = mix(COLORS["brown"], (0.1, 0.06, 0.04), 0.35)
        pole = box((x, (self.place[1] + ground) / 2), 0.012, (ground - self.place[1]) / 2)
        canvas.paint(pole, wood, "stand", pillar(x, 0.013))
        foot = ellipse((x, ground), 0.095, 0.022)
        canvas.paint(foot, wood, "stand", ball((x, ground - 0.01), 0.12, 0.06))
        weave = waves(self.texture, 80, 30.0, 3)
        neck = box((x, self.place[1] - 0.01), self.neck_width * 0.88, 0.072, 0.02)
        canvas.paint(neck, self._linen(), "stand", pillar(x, self.neck_width, weave))
        knob = ellipse((x, self.place[1] - 0.085), self.neck_width * 0.85, 0.015)
        canvas.paint(knob, wood, "stand", ball((x, self.place[1] - 0.09), 0.07, 0.04))

    def _paint_sleeve(self, canvas: Canvas, side: int, cloth: Color) -> None:
        root, length = self.sleeve(side, 0), np.float32(self._sleeve_length(side))
        angle = self.tilt - side * self.sleeve_angles[side > 0]
        wide, narrow = np.float32(self.sleeve_width), np.float32(self.sleeve_width * 0.80)
        creases, weave = waves(self.texture, 82 + side, 5.0, 4), waves(self.texture, 87, 60.0, 3)

        def half(s: Field) -> Field:
            return wide + (narrow - wide) * np.clip(s / length, 0, 1)

        def distance(x: Field, y: Field) -> Field:
            t, s = local(x, y, root, angle)
            across = np.sqrt(t * t + np.minimum(s, 0) ** 2) - half(s)
            return np.maximum(across, s - length)

        def shade(x: Field, y: Field) -> Field:
            t, s = local(x, y, root, angle)
            u, v = t / half(s), s / length
            hollow = 0.30 * np.exp(-((v / np.float32(0.22)) ** 2)) * (u * side < 0)
            light = 1.0 - 0.16 * u - 0.20 * u * u - hollow
            return (light + 0.13 * creases(u * 0.7, v * 1.3) + 0.035 * weave(u, v)).astype(
                np.float32
            )

        tip = self.sleeve(side, 1)
        outline = Shape(distance, capsule(root, tip, self.sleeve_width).box)
        name = "garment/sleeve/right" if side > 0 else "garment/sleeve/left"
        canvas.paint(outline, cloth, name, shade)

        def figured(x: Field, y: Field) -> tuple[Field, Field]:
            t, s = local(x, y, root, angle)
            return t * np.float32(0.05) / half(s), s * np.float32(0.3) / length

        self._paint_pattern(canvas, outline, figured, name, shade)

        def cuff(x: Field, y: Field) -> Field:
            _, s = local(x, y, root, angle)
            return np.maximum(distance(x, y), length - np.float32(CUFF) - s)

        tone = mix(cloth, (0, 0, 0), 0.25) if self.pattern == "buttons" else self._accent()
        canvas.paint(Shape(cuff, outline.box), tone, name, shade)

    def _accent(self) -> Color:
        return tinted(self.trim, self.texture // 3)

    def _paint_pattern(
        self, canvas: Canvas, outline: Shape, figured: Figured, part: str, shade: Shade
    ) -> None:
        """Lay the pattern on an outline; ``figured`` gives places on the unrolled cloth."""
        if self.pattern == "buttons":
            return
        step = np.float32(generator(self.texture, 85).uniform(0.036, 0.055))
        upright = self.texture % 2 == 0

        def wrapped(z: Field) -> Field:
            return np.abs(z - step * np.round(z / step))

        def bands(z: Field) -> Field:
            return wrapped(z) - step * np.float32(0.24)

        def dots(a: Field, b: Field) -> Field:
            return np.sqrt(wrapped(a) ** 2 + wrapped(b) ** 2) - step * np.float32(0.25)

        layers: dict[str, list[Distance]] = {
            "stripes": [lambda a, b: bands(a if upright else b)],
            "checks": [lambda a, b: bands(a) + 0 * b, lambda a, b: bands(b) + 0 * a],
            "dots": [dots],
        }
        accent = self._accent()
        for layer in layers[self.pattern]:

            def inlay(x: Field, y: Field, layer: Distance = layer) -> Field:
                return np.maximum(layer(*figured(x, y)), outline.distance(x, y))

            opacity = 0.55 if self.pattern == "checks" else 0.9
            canvas.paint(Shape(inlay, outline.box), accent, part, shade, opacity)

    def _linen(self) -> Color:
        return mix((0.86, 0.79, 0.68), (0.75, 0.62, 0.50), (self.texture % 5) / 5)

    def _paint_inside(self, canvas: Canvas, cloth: Color) -> None:
        """Paint what neckline and opening show: the garment's back, or the stand that it is on."""

        def back(x: Field, y: Field) -> Field:
            return np.maximum(self._hollow(x, y) - 0.01, self._torso(x, y + np.float32(0.03)))

        low = 1.0 if self.garment == "coat" else self.neck_depth + 0.02
        dark, hollow = mix(cloth, (0.06, 0.04, 0.06), 0.60), self._shape(back, bottom=low)
        canvas.paint(hollow, dark, "garment/lining", self._drape(86, 0.3, 0.22))
        if self.support == "stand":
            wide = np.float32(self.neck_width * 0.95)

            def chest(x: Field, y: Field) -> Field:
                ends = np.maximum(np.float32(-0.04) - y, y - np.float32(0.94 * self.length))
                column = np.maximum(np.abs(x) - wide, ends)
                return np.maximum(column, self._hollow(x, y) - 0.012)

            light = pillar(self.place[0], self.neck_width)
            canvas.paint(self._shape(chest, bottom=low), self._linen(), "stand", light)

    def _paint_torso(self, canvas: Canvas, cloth: Color) -> None:
        outline, shade = self._shape(self._cut), self._drape(84, 0.35)
        canvas.paint(outline, cloth, "garment/torso", shade)

        def figured(x: Field, y: Field) -> tuple[Field, Field]:
            x, y = self._inside(x, y)
            v = y / np.float32(self.length)
            return x * np.float32(0.135) / self.half_width(v), v * np.float32(0.5)

        self._paint_pattern(canvas, outline, figured, "garment/torso", shade)

        def border(x: Field, y: Field) -> Field:
            return np.maximum(self._cut(x, y), self._hem_line(x) - 0.014 - y)

        edge = self._shape(border, top=self.length - 0.05)
        canvas.paint(edge, mix(cloth, (0, 0, 0), 0.35), "garment/torso", shade, 0.5)

    def _paint_front(self, canvas: Canvas, cloth: Color) -> None:
        """Paint edges and buttons between neckline and hem; a dress has a few under its neck."""
        dark, count = mix(cloth, (0, 0, 0), 0.5), {"shirt": 6, "dress": 4, "coat": 5}[self.garment]
        top, bottom = self.neck_depth + 0.025, self.length - 0.035
        if self.garment == "dress":
            bottom = 0.5 * self.length
        overlap = 0.0 if self.garment == "coat" else 0.014
        for side in (-1, 1) if self.garment != "dress" else ():
            start = self.at(side * overlap, self.neck_depth)
            edge = capsule(start, self.front(side, 0.99, overlap), 0.0025)
            canvas.paint(edge, dark, "garment/torso", opacity=0.8)
        inward = 0.022 if self.garment == "coat" else 0.0
        accent = self._accent()
        hole = mix(accent, (0, 0, 0), 0.5)
        for i in range(count):
            y = top + (bottom - top) * i / (count - 1)
            place = self.front(1, y / self.length, inward)
            canvas.paint(circle((place[0] + 0.003, place[1] + 0.003), 0.0105), dark, opacity=0.5)
            canvas.paint(circle(place, 0.0095), accent, "garment/torso")
            canvas.paint(circle(place, 0.003), hole, "garment/torso")

    def _paint_collar(self, canvas: Canvas, cloth: Color) -> None:
        wide, deep = self.neck_width, self.neck_depth
        if self.garment == "dress":
            self._paint_neckband(canvas)
            return
        pale, light = mix(cloth, (1, 1, 1), 0.14), self._drape(88, 0.5, 0.10)
        reach, low = (0.034, 0.95) if self.garment == "shirt" else (0.062, 0.52)
        for side in (-1, 1):
            corners = [
                (wide * 0.90, -0.014),
                (wide + 0.022, 0.018),
                (wide * 0.5 + reach, deep * low),
                (0.002, deep + 0.012),
            ]
            flap = [self.at(side * x, y) for x, y in corners]
            flap = flap if side > 0 else flap[::-1]
            under = [(x + 0.004, y + 0.007) for x, y in flap]
            canvas.paint(convex(under), (0.04, 0.03, 0.05), opacity=0.4, softness=0.012)
            canvas.paint(convex(flap, 0.002), pale, "garment/collar", light)

    def _paint_neckband(self, canvas: Canvas) -> None:
        def band(x: Field, y: Field) -> Field:
            return np.maximum(np.abs(self._hollow(x, y) - 0.003) - 0.008, -0.008 - y)

        ring, light = self._shape(band, bottom=self.neck_depth + 0.03), self._drape(88, 0.5, 0.10)
        canvas.paint(ring, self._accent(), "garment/collar", light)

    def candidates(self) -> Iterator[SceneDrag]:
        (x, y), whole = self.place, f"garment+{self.support}"
        way = 1 if x < 0.5 else -1
        moved = (x + way * 0.10, y)
        lengths, angles = self.sleeve_lengths, self.sleeve_angles
        yield self.dragged("move", whole, [_cloth(0.1, 0.4), _cloth(0.1, 0.75)], place=moved)
        growth = 1.8 if self.garment == "dress" else 1.4
        longer, shorter = (tuple(v * f for v in lengths) for f in (growth, 0.55))
        yield self.dragged(
            "stretch",
            "garment/sleeve",
            [_sleeve(way, 0.8)],
            sleeve_lengths=_with_side(lengths, way, longer),
        )
        yield self.dragged(
            "shrink",
            "garment/sleeve",
            [_sleeve(-way, 0.85)],
            sleeve_lengths=_with_side(lengths, -way, shorter),
        )
        room = min(self.length * 1.2, 0.88 - y)
        yield self.dragged("stretch", "garment", [_cloth(0.2, 0.88)], length=room)
        yield self.dragged("shrink", "garment", [_cloth(0.2, 0.88)], length=self.length * 0.72)
        turned_to = tuple(a + (0.55 if a < 0.6 else -0.45) for a in angles)
        yield self.dragged(
            "rotate",
            "garment/sleeve",
            [_sleeve(-way, 0.85)],
            sleeve_angles=_with_side(angles, -way, turned_to),
        )
        if self.support == "hanger":
            swing = self.tilt + (0.22 if self.tilt < 0 else -0.22)
            yield self.dragged("rotate", whole, [_cloth(0.0, 0.85)], tilt=swing)
        yield self._opened()
        hem = [_cloth(-0.8, 0.92), _cloth(0.8, 0.92)]
        yield self.dragged("points", "garment", hem, hem=self.hem * 1.35)
        cuffs = [_sleeve(-1, 0.85), _sleeve(1, 0.85)]
        yield self.dragged("points", "garment/sleeve", cuffs, sleeve_lengths=shorter)
        if self.garment == "dress":
            far = (x + way * 0.20, y)
            yield self.dragged("long", whole, [_cloth(0.1, 0.6)], place=far)
        else:
            raised = _with_side(angles, way, tuple(a + 1.25 for a in angles))
            yield self.dragged("long", "garment/sleeve", [_sleeve(way, 0.85)], sleeve_angles=raised)
        yield self.dragged("off-centre", whole, [_cloth(-0.6 * way, 0.8)], place=moved)

    def _opened(self) -> SceneDrag:
        """Open or close the fronts of a coat; open the neckline of another garment."""
        if self.garment != "coat":
            below = [_under_neck]
            return self.dragged("open", "garment", below, neck_depth=self.neck_depth + 0.08)
        opening = self.opening + (0.06 if self.opening < 0.055 else -0.05)
        fronts = [_front(-1, 0.85), _front(1, 0.85)]
        return self.dragged("open", "garment/torso", fronts, opening=opening)


def _with_side(
    pair: tuple[float, float], side: int, other: tuple[float, ...]
) -> tuple[float, float]:
    """Return ``pair`` with the value of one side (-1 or 1) taken from ``other``."""
    return (pair[0], other[1]) if side > 0 else (other[0], pair[1])


def _cloth(u: float, v: float) -> Anchor:
    """Return a point of the garment's body: u across in half widths, v down in lengths."""

    def anchor(scene: Clothing) -> Point:
        wide = float(scene.half_width(np.float32(v)))
        return scene.at(u * wide, v * scene.length)

    return anchor


def _sleeve(side: int, along: float) -> Anchor:
    return lambda s: s.sleeve(side, along)


def _front(side: int, v: float) -> Anchor:
    return lambda s: s.front(side, v)


def _under_neck(scene: Clothing) -> Point:
    return scene.at(0.0, scene.neck_depth + 0.028)
