"""The job file: what a caller asks for.

Parsed strictly into frozen values; a field that is not known is refused, because a misspelt limit must not become no
limit. Nothing here looks at the engine or at an input's bytes. Everything in it is the submitter's word.
"""

import errno
import json
import os
import re
import select
import stat
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from executor.errors import RequestError
from signing.manifest import BUNDLE_SUFFIX

_FILE_BYTES_MAX = 1 << 20
_PIPE_SECONDS_MAX = 10.0
MIB = 1 << 20

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
OutputName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,99}){0,3}$")
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class InputSpec(_Strict):
    """A file that the job reads. It must have the digest that the job names."""

    uri: str = Field(min_length=1, max_length=4096, description="A path relative to the job file, or a file: URI")
    sha256: Sha256


class CodeSpec(_Strict):
    """The caller's own code, for kind `script`."""

    path: str = Field(min_length=1, max_length=4096, description="A file or directory, relative to the job file")
    entry: OutputName | None = Field(default=None, description="The file to run, where `path` is a directory")
    sha256: Sha256 | None = Field(default=None, description="Tree digest; computed when absent, checked when given")


class OutputSpec(_Strict):
    """A file that the job may send. What is not declared is refused."""

    name: OutputName
    role: Literal["model", "test-vectors", "report", "data"] = "data"
    required: bool = True


class Limits(_Strict):
    """Ceilings on one run. A profile may lower them, never raise them."""

    cpus: float = Field(default=2.0, gt=0, le=256)
    memory_bytes: int = Field(default=2048 * MIB, ge=64 * MIB, le=1 << 42)
    pids: int = Field(default=128, ge=8, le=32768)
    wall_seconds: float = Field(default=600.0, gt=0, le=7 * 86400)
    idle_seconds: float = Field(default=300.0, gt=0, le=7 * 86400)
    input_bytes: int = Field(default=16384 * MIB, ge=0, le=1 << 46)
    output_bytes: int = Field(default=1024 * MIB, ge=0, le=1 << 42)
    output_file_bytes: int = Field(default=1024 * MIB, ge=0, le=1 << 42)
    output_files: int = Field(default=64, ge=0, le=10_000)
    log_bytes: int = Field(default=8 * MIB, ge=1024, le=1 << 32)
    tmp_bytes: int = Field(default=256 * MIB, ge=MIB, le=1 << 40)
    tmp_inodes: int = Field(default=8192, ge=64, le=1 << 24)

    @model_validator(mode="after")
    def _tmp_fits_memory(self) -> "Limits":
        # A full tmpfs must be an error to the job and not a kill: tmpfs pages count as the container's memory.
        if self.tmp_bytes >= self.memory_bytes:
            raise ValueError("tmp_bytes must be less than memory_bytes, which it is part of")
        return self


class TrainParams(_Strict):
    """Parameters of kind `train`. Defaults: Kipf and Welling 2017, section 5.2."""

    hidden: int = Field(default=16, ge=1, le=4096)
    epochs: int = Field(default=200, ge=1, le=100_000)
    learning_rate: float = Field(default=0.01, gt=0, le=10)
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    report_every: int = Field(default=10, ge=1, le=100_000)


class JobSpec(_Strict):
    """A parsed job file."""

    apiVersion: Literal["executor/v1"]  # noqa: N815 - the field's name in the file
    kind: Literal["train", "script"]
    name: Name = "job"
    image: Name = "cpu"
    code: CodeSpec | None = None
    inputs: dict[Name, InputSpec] = Field(default_factory=dict, max_length=64)
    plugins: tuple[Name, ...] = Field(
        default=(),
        max_length=16,
        strict=False,
        description="Inputs that are libraries of custom operators of the policy",
    )
    params: dict[str, Any] = Field(default_factory=dict)
    outputs: tuple[OutputSpec, ...] = Field(default=(), max_length=1000, strict=False)
    limits: Limits = Limits()
    gpus: tuple[str, ...] = Field(default=(), max_length=16, strict=False, description="CDI device names")
    profile: Name = "standard"
    seed: int = Field(default=0, ge=0, lt=1 << 32)

    @model_validator(mode="after")
    def _kind_fits(self) -> "JobSpec":
        if self.kind == "train":
            if self.code is not None or self.outputs:
                raise ValueError("kind 'train' brings its own code and outputs: leave `code` and `outputs` out")
            if set(self.inputs) not in (set(), {"nodes", "edges"}):
                raise ValueError("kind 'train' takes the inputs `nodes` and `edges`, or none for the karate club")
            _check_params(TrainParams, self.params)
        elif self.code is None or not self.outputs:
            raise ValueError("kind 'script' needs `code` and at least one entry in `outputs`")
        try:
            json.dumps(self.params, allow_nan=False)
        except (TypeError, ValueError) as err:
            raise ValueError(f"params must be plain JSON values: {err}") from err
        for name in self.plugins:
            if name not in self.inputs or self.plugins.count(name) > 1:
                raise ValueError(f"plugins names inputs, each once: {name}")
        names = [o.name for o in self.outputs]
        if len(set(names)) != len(names):
            raise ValueError("an output name is declared twice")
        for name in names:
            if name.endswith(BUNDLE_SUFFIX):
                raise ValueError(f"an output name may not end in {BUNDLE_SUFFIX}: {name}")
            if inside := [other for other in names if other.startswith(f"{name}/")]:
                raise ValueError(f"an output cannot be a file and a folder: {name} and {inside[0]}")
        for device in self.gpus:
            if not re.fullmatch(r"[a-z0-9.-]+/[a-z0-9_.-]+=[A-Za-z0-9_.:-]+", device):
                raise ValueError(f"not a CDI device name, such as nvidia.com/gpu=0: {device!r}")
        return self


def _check_params(model: type[BaseModel], params: dict[str, Any]) -> None:
    try:
        model.model_validate(params)
    except ValidationError as err:
        raise ValueError("; ".join(f"params.{problem}" for problem in describe(err).split("; "))) from err


def load_job(path: Path) -> JobSpec:
    """Read and parse a job file, YAML or JSON.

    Raises:
        RequestError: It cannot be read, is not one document of at most 1 MiB, or breaks the schema.
    """
    try:
        data = _read(path)
    except OSError as err:
        raise RequestError(f"cannot read the job file: {path}: {err.strerror}") from err
    if len(data) > _FILE_BYTES_MAX:
        raise RequestError(f"job file is larger than {_FILE_BYTES_MAX} bytes: {path}")
    return parse_job(data, source=str(path))


def _read(path: Path) -> bytes:
    """Read a file, or a pipe that somebody writes to, as a shell's `<(...)` is: one that nobody does is not waited for.

    Raises:
        OSError: It cannot be read, is neither, or nothing comes.
    """
    # Not blocking: opening a pipe would wait for a writer that may never come.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
        kind = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISFIFO(kind):
            raise OSError(errno.EINVAL, "neither a file nor a pipe", str(path))
        data, deadline = bytearray(), time.monotonic() + _PIPE_SECONDS_MAX
        while len(data) <= _FILE_BYTES_MAX:
            if stat.S_ISFIFO(kind) and not select.select([file], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise OSError(errno.ETIMEDOUT, f"nobody wrote to this pipe for {_PIPE_SECONDS_MAX:g} s", str(path))
            piece = file.read(_FILE_BYTES_MAX + 1 - len(data))
            if piece == b"":
                break
            data += piece or b""
    return bytes(data)


def parse_job(data: bytes, *, source: str) -> JobSpec:
    """Parse the text of a job file.

    Raises:
        RequestError: Not YAML or JSON, or not a job of this version.
    """
    try:
        document = yaml.load(data.decode(), Loader=_UniqueKeyLoader)  # noqa: S506 - a subclass of SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as err:
        raise RequestError(f"job file is neither YAML nor JSON: {source}: {_one_line(err)}") from err
    try:
        json.dumps(document, ensure_ascii=False, default=str).encode()
    except ValueError as err:
        raise RequestError(f"job file holds text that is not Unicode: {source}") from err
    if not isinstance(document, dict):
        raise RequestError(f"job file does not hold a mapping: {source}", hint="see `executor schema job`")
    try:
        return JobSpec.model_validate(document)
    except ValidationError as err:
        raise RequestError(f"invalid job file: {source}: {describe(err)}", hint="see `executor schema job`") from err


def job_schema() -> dict[str, Any]:
    """Return the JSON Schema of the job file, for editors and callers."""
    schema = JobSpec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def describe(error: ValidationError) -> str:
    """Return the first few problems of a validation error, one line."""
    parts = []
    for item in error.errors(include_url=False, include_input=False)[:5]:
        place = ".".join(str(p) for p in item["loc"]) or "job"
        parts.append(f"{place}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(parts)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses what makes a small file mean something large or unseen: repeated keys and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not accepted", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, "keys must be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key stands twice: {key}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)
