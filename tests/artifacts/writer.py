"""Publish actions FIRST to LAST into a store: LOCATION FLAVOUR FIRST LAST.

The payload of an action follows from its number and the flavour. Prints `ready` when all is
imported, and then the object of each record that the store decided on.
"""

import sys

import numpy as np

from artifacts import Action, ArtifactStore, Circumstances, Document, TensorFile, digest_bytes


def action(number):
    return Action("race", 1, {}, {"image": digest_bytes("test", str(number).encode())}, {})


def payload(number, flavour):
    values = np.random.default_rng([number, flavour]).random((6, 4, 16, 16))
    return {
        "latents": values,
        "lora": TensorFile({"up": values[0], "down": values[1]}),
        "verdict": Document({"number": number}),
    }


def main(location, flavour, first, last):
    store = ArtifactStore.open(location)
    circumstances = Circumstances(code="0", started="2026-01-01T00:00:00Z", seconds=0.0)
    store.publish(action(10**6), payload(0, 0), circumstances)  # loads zarr and safetensors
    print("ready", flush=True)  # noqa: T201
    for number in range(int(first), int(last)):
        record = store.publish(action(number), payload(number, int(flavour)), circumstances)
        print(record.object, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
