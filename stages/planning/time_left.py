"""How long the rest of a run takes, by what the store and the run itself have seen."""

from collections import Counter
from collections.abc import Iterable

from artifacts import Record
from stages.pipeline import STAGE_NAMES
from stages.planning.forecast import Forecast, Kind


class TimeLeft:
    """The part of a forecast that is still to be made; what edits share counts once."""

    def __init__(self, expected: Forecast) -> None:
        """Begin with all of it."""
        self._paces = expected.paces
        self._units = Counter[Kind]()
        self._places: dict[tuple[str, str], int] = {}
        self._missing = expected.missing
        self._waiting = [len(each.edits) for each in self._missing]
        for place, each in enumerate(self._missing):
            self._units[each.kind] += each.units
            self._places.update({(each.stage, name): place for name in each.edits})

    def learn(self, record: Record, seconds: float) -> None:
        """Learn how long an artifact took in this run."""
        self._paces.learn(record, seconds)

    def past(self, stage: str, ids: Iterable[str]) -> None:
        """Take out what no edit waits for any more, once these are past a stage."""
        for name in ids:
            place = self._places.pop((stage, name), None)
            if place is not None:
                self._waiting[place] -= 1
                if not self._waiting[place]:
                    self._units[self._missing[place].kind] -= self._missing[place].units

    def given_up(self, edit_id: str) -> None:
        """Take out what only an edit waits for that has failed."""
        for stage in STAGE_NAMES:
            self.past(stage, [edit_id])

    @property
    def seconds(self) -> float | None:
        """The time that the rest takes; None while nothing is known of a stage of it."""
        left = 0.0
        for kind, units in self._units.items():
            pace = self._paces.of(kind) or self._paces.of_stage(kind[0])
            if units and pace is None:
                return None
            left += units * pace.seconds if pace else 0.0
        return left
