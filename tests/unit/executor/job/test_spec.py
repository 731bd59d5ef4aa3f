"""The job file's border, from both sides."""

import json
from pathlib import Path

import jsonschema
import pytest

from executor.errors import RequestError
from executor.job.spec import JobSpec, job_schema, load_job, parse_job

TRAIN = {"apiVersion": "executor/v1", "kind": "train"}
SCRIPT = {"apiVersion": "executor/v1", "kind": "script", "code": {"path": "a.py"}, "outputs": [{"name": "a.txt"}]}


def parse(document: object) -> JobSpec:
    return parse_job(json.dumps(document).encode(), source="job")


def test_the_smallest_job_gets_every_default() -> None:
    spec = parse(TRAIN)
    assert (spec.image, spec.profile, spec.seed, spec.limits.pids) == ("cpu", "standard", 0, 128)


def test_yaml_and_json_give_the_same_job() -> None:
    assert parse_job(b"apiVersion: executor/v1\nkind: train\nseed: 3\n", source="job") == parse(TRAIN | {"seed": 3})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"apiVersion": "executor/v2"}, "apiVersion"),
        ({"kind": "dance"}, "kind"),
        ({"memory": 1}, "memory: Extra inputs"),
        ({"limits": {"memory_byte": 1}}, "limits.memory_byte"),
        ({"seed": "1"}, "seed"),
        ({"seed": 1 << 32}, "seed"),
        ({"seed": -1}, "seed"),
        ({"limits": {"pids": 7}}, "limits.pids"),
        ({"limits": {"memory_bytes": (64 << 20) - 1}}, "limits.memory_bytes"),
        ({"limits": {"tmp_bytes": 2048 << 20}}, "tmp_bytes must be less"),
        ({"limits": {"wall_seconds": 0}}, "wall_seconds"),
        ({"params": {"epoch": 3}}, "params.epoch: Extra inputs"),
        ({"params": {"epochs": 0}}, "epochs"),
        ({"inputs": {"nodes": {"uri": "n", "sha256": "0" * 64}}}, "nodes"),
        ({"inputs": {"nodes": {"uri": "n", "sha256": "0" * 63}}}, "sha256"),
        ({"outputs": [{"name": "x"}]}, "leave `code` and `outputs` out"),
        ({"gpus": ["all"]}, "CDI"),
        ({"name": "../x"}, "name"),
        ({"image": "Latest:1"}, "image"),
    ],
)
def test_what_a_train_job_may_not_say_is_refused_by_name(change: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError, match=words.replace("(", r"\(")):
        parse(TRAIN | change)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": (1 << 32) - 1},
        {"limits": {"pids": 8}},
        {"limits": {"memory_bytes": 64 << 20, "tmp_bytes": (64 << 20) - 1}},
        {"gpus": ["nvidia.com/gpu=0"]},
        {"params": {"epochs": 1}},
    ],
)
def test_a_value_on_the_limit_is_accepted(change: dict[str, object]) -> None:
    parse(TRAIN | change)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "a/../b", ".hidden", "a//b", "a\nb", "", "-rf", "a/b/c/d/e", "ü"]
)
def test_an_output_name_that_could_surprise_a_file_system_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="outputs"):
        parse(SCRIPT | {"outputs": [{"name": name}]})


def test_an_output_declared_twice_is_refused() -> None:
    with pytest.raises(RequestError, match="declared twice"):
        parse(SCRIPT | {"outputs": [{"name": "a"}, {"name": "a"}]})


def test_a_script_job_without_code_or_outputs_is_refused() -> None:
    for missing in ("code", "outputs"):
        with pytest.raises(RequestError, match="needs `code`"):
            parse({k: v for k, v in SCRIPT.items() if k != missing})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"apiVersion: executor/v1\nkind: train\nkind: script\n",
        b"apiVersion: executor/v1\nkind: train\nparams: &a {b: 1}\ninputs: *a\n",
        b"apiVersion: executor/v1\nkind: !!python/name:os.system\n",
        b"1: 2",
        b"[" * 5000,
    ],
)
def test_text_that_is_no_plain_mapping_is_refused(text: bytes) -> None:
    with pytest.raises(RequestError):
        parse_job(text, source="job")


def test_a_job_file_up_to_the_limit_is_read_and_one_byte_more_is_refused(tmp_path: Path) -> None:
    text = json.dumps(TRAIN)
    path = tmp_path / "job.json"
    path.write_text(text.ljust(1 << 20))
    assert load_job(path) == parse(TRAIN)
    path.write_text(text.ljust((1 << 20) + 1))
    with pytest.raises(RequestError, match="larger than"):
        load_job(path)


@pytest.mark.parametrize("names", [("a.txt", "a.txt/b"), ("a.sigstore.json",), ("a/b", "a")])
def test_output_names_that_a_release_could_not_hold_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(RequestError, match="output"):
        parse(SCRIPT | {"outputs": [{"name": n} for n in names]})


def test_a_yaml_date_in_params_is_refused_because_it_is_no_json() -> None:
    text = json.dumps(SCRIPT).encode()[:-1] + b', "params": {"day": 2026-01-01}}'
    with pytest.raises(RequestError, match="plain JSON"):
        parse_job(text, source="job")


def test_the_published_schema_accepts_what_the_parser_accepts_and_refuses_unknown_fields() -> None:
    validator = jsonschema.Draft202012Validator(job_schema())
    assert validator.is_valid(TRAIN)
    assert validator.is_valid(SCRIPT)
    assert not validator.is_valid(TRAIN | {"surprise": 1})
