"""The manifests: by the published schemas, and what they promise."""

from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from support.commands import check_command

from flows.outcomes import NOT_STARTED, SOME_FAILED

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
OLDEST = "1.29"
"""Since then each shard has a limit of its own, without an opt-in."""


def documents() -> list[dict]:
    return [each for path in MANIFESTS for each in yaml.safe_load_all(path.read_text("utf-8"))]


def job(name: str) -> dict:
    (found,) = [each for each in documents() if each["metadata"]["name"] == name]
    return found["spec"]


def containers() -> list[tuple[dict, dict]]:
    """Each container of the jobs, with the pod that it is in."""
    pods = [each["spec"]["template"]["spec"] for each in documents() if each["kind"] == "Job"]
    return [
        (each, pod) for pod in pods for each in [*pod.get("initContainers", ()), *pod["containers"]]
    ]


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_they_are_valid_by_the_published_schemas(version):
    for document in documents():
        kubernetes_validate.validate(document, version, strict=True)


def test_there_is_one_pod_for_each_shard():
    spec = job("adaptivedrag-shards")
    (shard,) = spec["template"]["spec"]["containers"]
    assert spec["completionMode"] == "Indexed"
    assert {"name": "SHARDS", "value": str(spec["completions"])} in shard["env"]
    command = shard["args"][0].replace('"$((JOB_COMPLETION_INDEX + 1))/$SHARDS"', "1/8")
    assert check_command(command.split()[2:]) == "run"
    rule = spec["podFailurePolicy"]["rules"][1]["onExitCodes"]
    assert rule["containerName"] == shard["name"]
    assert rule["values"] == [SOME_FAILED, NOT_STARTED]  # all else, a store that is away too: again
    assert shard["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_the_page_is_of_the_same_job_store_and_folder():
    words = job("adaptivedrag-shards")["template"]["spec"]["containers"][0]["args"][0].split()
    pod = job("adaptivedrag-page")["template"]["spec"]
    (waits,), (page,) = pod["initContainers"], pod["containers"]
    assert check_command(waits["args"]) == "status"
    assert check_command(page["args"]) == "report"
    for option in ("--store", "--out"):
        assert page["args"][page["args"].index(option) + 1] == words[words.index(option) + 1]
    assert waits["args"][1] == page["args"][1] == words[3]


def test_nothing_runs_as_root_or_writes_where_it_should_not():
    for container, pod in containers():
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert not security["allowPrivilegeEscalation"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
        assert mounts["/models"]["readOnly"]
        assert {"/cache", "/data"} <= {*mounts}
        assert {each["name"] for each in mounts.values()} == {
            each["name"] for each in pod["volumes"]
        }
