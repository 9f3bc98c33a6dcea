"""What a store says that it holds is what is there."""

from artifacts.upkeep.usage import Amount, measure_usage


def test_an_empty_store_holds_nothing(store):
    usage = measure_usage(store, {"job": set()})
    assert usage.total == Amount() == usage.jobs["job"]
    assert usage.stages == {}


def test_bytes_are_counted_by_stage_and_job_and_shared_ones_once(
    store, make_action, make_payload, circumstances
):
    lora, other = make_action(0, "train_lora"), make_action(1, "train_lora")
    image = make_action(2, "sample_image")
    first = store.publish(lora, make_payload(0), circumstances)
    store.publish(other, make_payload(0), circumstances)
    second = store.publish(image, make_payload(1), circumstances)
    jobs = {"one": {lora.key, image.key}, "two": {other.key}}
    usage = measure_usage(store, jobs)
    assert usage.stages == {
        "train_lora": Amount(2, 0, 1, first.size, first.size),
        "sample_image": Amount(1, 0, 1, second.size, second.size),
    }
    assert usage.total == Amount(3, 0, 2, first.size + second.size, first.size + second.size)
    assert usage.jobs == {
        "one": Amount(2, 0, 2, first.size + second.size, second.size),
        "two": Amount(1, 0, 1, first.size, 0),
    }


def test_collected_superseded_and_other_things_are_told_apart(
    store, make_action, make_payload, circumstances
):
    old = store.publish(make_action(0), make_payload(0), circumstances)
    new = store.publish(make_action(0), make_payload(1), circumstances, replace=True)
    gone = store.publish(make_action(1), make_payload(2), circumstances)
    folder = f"objects/{gone.object[:2]}/{gone.object}"
    store.backend.delete(f"{folder}/{path}" for path in gone.files)
    store.put_run("one", "events.jsonl", b"12345")
    usage = measure_usage(store)
    assert usage.total == Amount(2, 1, 1, new.size, new.size)
    assert usage.unnamed == Amount(0, 0, 1, old.size, old.size)
    assert usage.beside["runs"] == 5
    assert usage.beside["progress"] == usage.beside["attempts"] == 0


def test_everything_counted_is_all_there_is(store, make_action, make_payload, circumstances):
    for number in range(3):
        store.publish(make_action(number), make_payload(number), circumstances)
    store.put_progress("invert_image", make_action(9).key, 20, make_payload())
    store.add_attempt("invert_image", make_action(9).key, {"message": "too dark"})
    usage = measure_usage(store)
    counted = usage.total.size + usage.unnamed.size + sum(usage.beside.values())
    there = store.backend.sizes("")
    assert counted == sum(there.values()) - there["format.json"]
