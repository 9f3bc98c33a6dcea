"""What only object storage does: refusals by status, lost replies, and slow answers.

The server is moto's, on loopback (`s3_server.py`); slowness is counted in rounds, not seconds.
"""

import threading
from math import ceil

import pytest
import writer as child
from obstore.store import MemoryStore
from support.s3_server import LOST, BadLine, s3_location
from support.store_faults import FaultyBackend

from artifacts import ArtifactStore, Document, StoreUnavailable
from artifacts.upkeep.verify import Verification


@pytest.fixture
def line(s3_port):
    line = BadLine(s3_port)
    yield line
    line.shutdown()
    line.server_close()


@pytest.fixture
def place(request):
    return request.node.name.replace("[", "-").replace("]", "")


def puts_of_records(fault, times):
    """A fault that befalls the first few puts of records."""
    left = [times]

    def strike(method, path):
        if method == "PUT" and "/actions/" in path and left[0]:
            left[0] -= 1
            return fault
        return None

    return strike


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("fault", [LOST, 409, 500, 503])
def test_a_commit_whose_reply_is_lost_or_that_meets_another_request_is_made_once(
    s3_port, line, place, make_action, make_payload, circumstances, check_payload, fault, replace
):
    store = ArtifactStore.open(s3_location(line.server_port, place))
    line.fault = puts_of_records(fault, 1)
    action = make_action()
    record = store.publish(action, make_payload(), circumstances, replace=replace)
    direct = ArtifactStore.open(s3_location(s3_port, place), create=False)
    assert record.number == 1
    assert direct.lookup(action.stage, action.key).record == record
    assert len(direct.backend.sizes(f"actions/{action.stage}")) == 1
    check_payload(direct.read(record), make_payload())


def test_a_412_yields_to_the_record_that_is_there(s3_port, line, place, make_action, circumstances):
    direct = ArtifactStore.open(s3_location(s3_port, place))
    store = ArtifactStore.open(s3_location(line.server_port, place))
    action, theirs = make_action(), []

    def overtake(method, path):
        if method == "PUT" and "/actions/" in path and not theirs:
            theirs.append(direct.publish(action, {"a": Document("theirs")}, circumstances))

    line.fault = overtake
    ours = store.publish(action, {"a": Document("ours")}, circumstances)
    assert [ours] == theirs
    assert store.read(ours)["a"] == "theirs"


@pytest.mark.parametrize("fault", [409, 412, 503])
def test_a_commit_that_is_refused_for_ever_fails_in_one_line(
    s3_port, line, place, make_action, make_payload, circumstances, fault
):
    store = ArtifactStore.open(s3_location(line.server_port, place))

    def refuse(method, path):
        return fault if method == "PUT" and "/actions/" in path else None

    line.fault = refuse
    with pytest.raises(StoreUnavailable) as caught:
        store.publish(make_action(), make_payload(), circumstances)
    assert "\n" not in str(caught.value)
    line.fault = lambda method, path: None
    assert store.lookup("invert_image", make_action().key) is None
    assert store.publish(make_action(), make_payload(), circumstances).number == 1


def test_any_request_may_fail_once_without_being_noticed(
    line, place, make_action, make_payload, circumstances, check_payload
):
    seen = set()

    def first_time(method, path):
        fault = None if (method, path) in seen else [500, LOST, 503][len(seen) % 3]
        seen.add((method, path))
        return fault

    line.fault = first_time
    store = ArtifactStore.open(s3_location(line.server_port, place))
    record = store.publish(make_action(), make_payload(), circumstances)
    check_payload(store.read(record), make_payload())
    assert list(Verification(store)) == []
    assert len(seen) > 15


def test_of_two_writers_one_wins_every_key(s3_port, place, circumstances):
    stores = [ArtifactStore.open(s3_location(s3_port, place)) for _ in range(2)]
    barrier, won = threading.Barrier(2), [[], []]

    def write(flavor):
        for number in range(12):
            barrier.wait()
            payload = child.payload(number, flavor)
            won[flavor].append(stores[flavor].publish(child.action(number), payload, circumstances))

    threads = [threading.Thread(target=write, args=(flavor,)) for flavor in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won[0] == won[1]
    assert [record.number for record in won[0]] == [1] * 12


@pytest.mark.parametrize("operation", ["create", "put"])
def test_a_write_that_was_done_though_it_failed_is_found_by_the_next_publish(
    make_action, make_payload, circumstances, check_payload, operation
):
    objects = MemoryStore()
    ArtifactStore.open(objects)
    backend = FaultyBackend(objects, "faulty")

    def lose(done, path):
        if done == operation:
            raise StoreUnavailable("the reply was lost")

    backend.after = lose
    with pytest.raises(StoreUnavailable):
        ArtifactStore(backend).publish(make_action(), make_payload(), circumstances)
    healthy = ArtifactStore.open(objects)
    record = healthy.publish(make_action(), make_payload(), circumstances)
    assert record.number == 1
    check_payload(healthy.read(record), make_payload())
    assert list(Verification(healthy)) == []


class Rounds(FaultyBackend):
    """Answers all waiting requests at once, as soon as no more are coming, and counts how often.

    So it counts the delays that a user of a slow store waits for, whatever the delay is.
    """

    def watch(self):
        self.rounds = self.requests = self.most = 0
        self._turn, self._waiting, self._closed = threading.Condition(), 0, False
        self.before = self._wait
        self._clock = threading.Thread(target=self._tick, daemon=True)
        self._clock.start()
        return self

    def close(self):
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        self._clock.join()

    def _wait(self, operation, path):
        with self._turn:
            self.requests += 1
            self._waiting += 1
            self.most = max(self.most, self._waiting)
            now = self.rounds
            self._turn.notify_all()
            self._turn.wait_for(lambda: self.rounds > now)

    def _tick(self):
        with self._turn:
            while not self._closed:
                before = self._waiting
                if self._turn.wait(0.02) or not before:
                    continue
                self._waiting = 0
                self.rounds += 1
                self._turn.notify_all()


def look_up(objects, numbers):
    backend = Rounds(objects, "slow").watch()
    keys = [child.action(number).key for number in numbers]
    found = ArtifactStore(backend).lookup_many("race", keys)
    backend.close()
    return found, backend


def test_looking_up_in_a_slow_store_is_neither_serial_nor_quadratic(circumstances):
    objects = MemoryStore()
    store = ArtifactStore.open(objects)
    for number in range(1000):
        store.publish(child.action(number), {"a": Document(number)}, circumstances)
    found, backend = look_up(objects, range(1000))
    assert len(found) == 1000
    # A listing for each of at most 256 prefixes of records and of objects, and each record once.
    assert backend.requests <= 2 * 256 + 1000
    at_best = 2 * ceil(256 / backend.parallel) + ceil(1000 / backend.parallel)
    assert backend.rounds <= 1.5 * at_best
    half, other = look_up(objects, range(500))
    assert len(half) == 500
    assert backend.requests <= 2 * other.requests
    assert backend.rounds <= 2 * other.rounds
    assert backend.most == backend.parallel


def test_looking_up_what_a_slow_store_has_not_costs_listings_only():
    objects = MemoryStore()
    ArtifactStore.open(objects)
    found, backend = look_up(objects, range(1000))
    assert found == {}
    assert backend.requests <= 256
    assert backend.rounds <= 1.5 * ceil(256 / backend.parallel)


def test_verifying_a_slow_store_is_not_serial(circumstances):
    objects = MemoryStore()
    store = ArtifactStore.open(objects)
    for number in range(200):
        store.publish(child.action(number), {"a": Document(number)}, circumstances)
    backend = Rounds(objects, "slow").watch()
    check = Verification(ArtifactStore(backend))
    assert list(check) == []
    backend.close()
    assert check.counts.objects == 200
    assert backend.rounds <= backend.requests / 10
