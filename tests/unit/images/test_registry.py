"""Registries are not trusted: not with digests, not with credentials, not with where they send us."""

import hashlib
import io
import json
from pathlib import Path

import pytest

from images import registry as module
from images.errors import InputError, SourceError
from images.registry import Registry, Repository, docker_credentials, parse_repository
from images.store import Blob, BlobStore
from tests.unit.images.registry_server import FakeRegistry, serving

DATA = b"blob"
SHA256 = hashlib.sha256(DATA).hexdigest()
BASIC = "dXNlcjpwYXNz"


def client(fake: FakeRegistry, *, credentials: str | None = None) -> Registry:
    return Registry(parse_repository(f"{fake.host}/a/b"), credentials=credentials)


@pytest.mark.parametrize(
    ("text", "host", "path"),
    [
        ("localhost:5000/a", "localhost:5000", "a"),
        ("127.0.0.1:5000/a/b-c/d_e", "127.0.0.1:5000", "a/b-c/d_e"),
        ("[::1]:5000/a", "[::1]:5000", "a"),
        ("registry.example.org/team/cpu", "registry.example.org", "team/cpu"),
    ],
)
def test_a_repository_is_a_host_and_a_path(text: str, host: str, path: str) -> None:
    assert parse_repository(text) == Repository(host=host, path=path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "https://h/a",
        "h/a:tag",
        "h/a@sha256:0",
        "h/A",
        "h//a",
        "h/../a",
        "h/a/",
        "h:port/a",
        "h/a?b",
        "[::::]/x",
        "h:99999/a",
    ],
)
def test_what_is_no_repository_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a repository"):
        parse_repository(text)


def test_plain_http_is_spoken_to_loopback_only() -> None:
    loopback = ["localhost:5000", "localhost", "127.0.0.1:5000", "127.8.9.1", "[::1]:5000", "[::1]"]
    assert {parse_repository(f"{h}/a").url[:7] for h in loopback} == {"http://"}
    others = [
        "localhost.example.org",
        "127.0.0.1.example.org:5000",
        "10.0.0.1:5000",
        "registry.example.org",
        "[fd00::1]",
    ]
    assert {parse_repository(f"{h}/a").url[:8] for h in others} == {"https://"}


def test_a_blob_goes_and_comes_back() -> None:
    with serving(FakeRegistry()) as fake:
        registry = client(fake)
        assert not registry.has_blob(SHA256)
        assert registry.put_blob(SHA256, lambda: io.BytesIO(DATA))
        assert not registry.put_blob(SHA256, lambda: io.BytesIO(DATA))
        assert b"".join(registry.get_blob(SHA256)) == DATA
        assert [m for m, _, _ in fake.seen].count("PUT") == 1


def test_a_blob_that_is_not_what_was_asked_for_is_refused_and_not_kept(tmp_path: Path) -> None:
    lies = {f"/v2/a/b/blobs/sha256:{SHA256}": b"evil"}
    with serving(FakeRegistry(lies=lies)) as fake, pytest.raises(InputError, match="fetched thing"):
        BlobStore(tmp_path).put(Blob(name="thing", sha256=SHA256, size=4), client(fake).get_blob(SHA256))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_manifest_that_is_not_what_was_asked_for_is_refused() -> None:
    digest = f"sha256:{SHA256}"
    with serving(FakeRegistry(lies={f"/v2/a/b/manifests/{digest}": b"{}"})) as fake:
        with pytest.raises(InputError, match="another manifest"):
            client(fake).get_manifest(digest)
        assert client(fake).get_manifest("absent") is None


def test_a_manifest_of_the_largest_size_is_read_and_a_larger_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANIFEST_BYTES_MAX", 1000)
    with serving(FakeRegistry(manifests={"at": b"x" * 1000, "over": b"x" * 1001})) as fake:
        assert client(fake).get_manifest("at") == b"x" * 1000
        with pytest.raises(InputError, match="too large"):
            client(fake).get_manifest("over")


@pytest.mark.parametrize("has_referrers", [True, False])
def test_referrers_are_listed_with_and_without_the_api(has_referrers: bool) -> None:
    subject = "sha256:" + "1" * 64
    manifests = [
        json.dumps({"artifactType": f"t{n}", "subject": {"digest": subject}, "layers": []}).encode() for n in range(2)
    ]
    with serving(FakeRegistry(referrers=has_referrers)) as fake:
        registry = client(fake)
        for manifest in (*manifests, manifests[0]):
            registry.put_manifest(manifest)
        found = {d["digest"] for d in registry.referrers(subject)}
        assert found == {"sha256:" + hashlib.sha256(m).hexdigest() for m in manifests}
        assert ("sha256-" + "1" * 64 in fake.manifests) is not has_referrers
        assert registry.referrers("sha256:" + "2" * 64) == []


def test_a_basic_challenge_is_answered_with_the_users_credentials() -> None:
    with serving(FakeRegistry(basic=f"Basic {BASIC}", blobs={f"sha256:{SHA256}": DATA})) as fake:
        assert client(fake, credentials=BASIC).has_blob(SHA256)
        assert [a for _, _, a in fake.seen] == ["", f"Basic {BASIC}"]
        with pytest.raises(SourceError, match="wants credentials"):
            client(fake).has_blob(SHA256)
        with pytest.raises(SourceError, match="answered 401"):
            client(fake, credentials="d3Jvbmc6").has_blob(SHA256)


def test_a_token_is_fetched_once_and_used() -> None:
    with serving(FakeRegistry(basic=f"Basic {BASIC}", bearer="t0k3n", blobs={f"sha256:{SHA256}": DATA})) as fake:
        registry = client(fake, credentials=BASIC)
        assert registry.has_blob(SHA256)
        assert registry.has_blob(SHA256)
        assert [a for _, p, a in fake.seen if p != "/token"] == ["", "Bearer t0k3n", "Bearer t0k3n"]
        assert [a for _, p, a in fake.seen if p == "/token"] == [f"Basic {BASIC}"]
        with pytest.raises(SourceError, match="no token"):
            client(fake).has_blob(SHA256)


def test_an_upload_is_sent_again_whole_after_a_challenge() -> None:
    with serving(FakeRegistry(bearer="one")) as fake:
        registry = client(fake)
        assert not registry.has_blob(SHA256)
        opened = []

        def open_blob() -> io.BytesIO:
            opened.append(1)
            fake.bearer = "two"  # the token expires while the upload is under way
            return io.BytesIO(DATA)

        assert registry.put_blob(SHA256, open_blob)
        assert fake.blobs == {f"sha256:{SHA256}": DATA}
        assert len(opened) == 2


def test_credentials_do_not_follow_a_redirect_to_another_place() -> None:
    blobs = {f"sha256:{SHA256}": DATA}
    path = f"/v2/a/b/blobs/sha256:{SHA256}"
    with serving(FakeRegistry(blobs=blobs)) as store, serving(FakeRegistry(basic=f"Basic {BASIC}")) as fake:
        fake.moved[path] = f"http://{store.host}{path}"
        registry = client(fake, credentials=BASIC)
        assert b"".join(registry.get_blob(SHA256)) == DATA
        assert fake.seen[-1][2] == f"Basic {BASIC}"
        assert [a for _, _, a in store.seen] == [""]


def test_an_upload_is_not_redirected() -> None:
    moved = {"/v2/a/b/blobs/uploads/": "http://127.0.0.1:9/elsewhere"}
    with serving(FakeRegistry(moved=moved)) as fake, pytest.raises(SourceError, match="answered 307 to POST"):
        client(fake).put_blob(SHA256, lambda: io.BytesIO(DATA))


def test_a_token_server_without_tls_is_refused_but_on_loopback() -> None:
    registry = Registry(Repository(host="registry.example.org", path="a"), credentials=BASIC)
    with pytest.raises(SourceError, match=r"without TLS: tokens\.example\.org"):
        registry._answer('Bearer realm="http://tokens.example.org/t",service="s"')


def test_a_registry_that_is_not_there_is_worth_a_retry() -> None:
    with serving(FakeRegistry()) as fake:
        gone = client(fake)
    with pytest.raises(SourceError, match="does not answer"):
        gone.has_blob(SHA256)


def test_credentials_are_those_of_docker_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert docker_credentials("h") is None
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {"h": {"auth": BASIC}, "bad": {"auth": "no base64"}, "none": {}}}))
    assert docker_credentials("h") == BASIC
    assert [docker_credentials(h) for h in ("other", "bad", "none")] == [None, None, None]
    config.write_text("[]")
    assert docker_credentials("h") is None


@pytest.mark.parametrize(
    "data", [b"", b"no JSON", b"[]", b"{}", b'{"manifests": 1}', b'{"manifests": [1]}', b'{"manifests": [{}]}']
)
def test_a_malformed_list_of_referrers_is_refused(data: bytes) -> None:
    path = "/v2/a/b/referrers/sha256:" + "1" * 64
    with serving(FakeRegistry(lies={path: data})) as fake, pytest.raises(InputError, match="malformed list"):
        client(fake).referrers("sha256:" + "1" * 64)


@pytest.mark.parametrize(
    "data", [b"no JSON", b"[]", b'{"token": 1}', b'{"token": "a\\r\\nX-Header: b"}', b'{"token": ""}']
)
def test_a_malformed_token_is_refused(data: bytes) -> None:
    with serving(FakeRegistry(bearer="t", token_answer=data)) as fake, pytest.raises(SourceError, match="no token"):
        client(fake).has_blob(SHA256)


def test_an_encoding_that_was_not_asked_for_is_refused() -> None:
    """A decoder would make gigabytes of a few bytes."""
    blobs = {f"sha256:{SHA256}": DATA}
    with serving(FakeRegistry(blobs=blobs, encoding="gzip")) as fake, pytest.raises(InputError, match="encoding"):
        b"".join(client(fake).get_blob(SHA256))


def test_credentials_of_a_netrc_do_not_take_the_place_of_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with serving(FakeRegistry(basic=f"Basic {BASIC}", blobs={f"sha256:{SHA256}": DATA})) as fake:
        registry = client(fake, credentials=BASIC)
        registry._session.trust_env = True
        assert registry.has_blob(SHA256)
        assert [a for _, _, a in fake.seen] == ["", f"Basic {BASIC}"]


def test_credentials_do_not_answer_the_challenge_of_another_place() -> None:
    """Neither where a blob is redirected to, nor where an upload is sent."""
    path = f"/v2/a/b/blobs/sha256:{SHA256}"
    with serving(FakeRegistry(basic="Basic other", bearer="other")) as thief, serving(FakeRegistry()) as fake:
        fake.basic = f"Basic {BASIC}"
        fake.moved = {path: f"http://{thief.host}{path}"}
        with pytest.raises(SourceError, match="does not give"):
            b"".join(client(fake, credentials=BASIC).get_blob(SHA256))
        fake.moved = {}
        fake.upload = f"http://{thief.host}/v2/a/b/blobs/uploads/1"
        with pytest.raises(SourceError, match="sends uploads elsewhere"):
            client(fake, credentials=BASIC).put_blob(SHA256, lambda: io.BytesIO(DATA))
        assert [a for _, _, a in thief.seen] == [""]


def test_a_registry_on_loopback_sends_nobody_elsewhere_without_tls() -> None:
    registry = Registry(Repository(host="127.0.0.1:5000", path="a"), credentials=BASIC)
    with pytest.raises(SourceError, match=r"without TLS: tokens\.example\.org"):
        registry._answer('Bearer realm="http://tokens.example.org/t",service="s"')
    path = f"/v2/a/b/blobs/sha256:{SHA256}"
    moved = {path: "http://blobs.example.org/x"}
    with serving(FakeRegistry(moved=moved)) as fake, pytest.raises(SourceError, match=r"without TLS: blobs\."):
        b"".join(client(fake).get_blob(SHA256))


@pytest.mark.parametrize(("hops", "arrives"), [(5, True), (6, False)])
def test_five_redirects_are_followed_and_a_sixth_is_not(hops: int, arrives: bool) -> None:
    path = f"/v2/a/b/blobs/sha256:{SHA256}"
    moved = {f"/{n}": f"/{n + 1}" for n in range(1, hops)} | {path: "/1"}
    with serving(FakeRegistry(moved=moved, lies={f"/{hops}": DATA})) as fake:
        if arrives:
            assert b"".join(client(fake).get_blob(SHA256)) == DATA
        else:
            with pytest.raises(SourceError, match="does not give"):
                b"".join(client(fake).get_blob(SHA256))


def test_redirects_that_lead_nowhere_end() -> None:
    path = f"/v2/a/b/blobs/sha256:{SHA256}"
    with serving(FakeRegistry(moved={path: path})) as fake, pytest.raises(SourceError, match="does not give"):
        b"".join(client(fake).get_blob(SHA256))


@pytest.mark.parametrize("location", ["http://[/x", "http://127.0.0.1:port/x", "http://../x", "ftp://127.0.0.1/x"])
def test_an_address_that_is_none_is_refused(location: str) -> None:
    path = f"/v2/a/b/blobs/sha256:{SHA256}"
    with serving(FakeRegistry(moved={path: location})) as fake, pytest.raises(SourceError):
        b"".join(client(fake).get_blob(SHA256))
    with serving(FakeRegistry(upload=location)) as fake, pytest.raises(SourceError):
        client(fake).put_blob(SHA256, lambda: io.BytesIO(DATA))
    with serving(FakeRegistry(bearer="t", realm=location)) as fake, pytest.raises(SourceError):
        client(fake).has_blob(SHA256)


def test_a_registry_that_breaks_off_is_worth_a_retry() -> None:
    blobs, manifests = {f"sha256:{SHA256}": DATA}, {"tag": b"{}"}
    with serving(FakeRegistry(blobs=blobs, manifests=manifests, promises=100)) as fake:
        with pytest.raises(SourceError, match="broke off"):
            b"".join(client(fake).get_blob(SHA256))
        with pytest.raises(SourceError, match="broke off"):
            client(fake).get_manifest("tag")


def test_a_registry_that_says_that_it_stored_another_manifest_is_refused() -> None:
    with (
        serving(FakeRegistry(stored="sha256:" + "0" * 64)) as fake,
        pytest.raises(InputError, match="changed the manifest"),
    ):
        client(fake).put_manifest(b"{}")


def test_an_upload_to_the_registry_with_its_port_named_is_its_own() -> None:
    registry = Registry(Repository(host="registry.example.org", path="a"))
    assert registry._is_ours("https://registry.example.org:443/v2/a/blobs/uploads/1")
    for other in ("https://registry.example.org:444/", "http://registry.example.org/", "https://example.org/"):
        assert not registry._is_ours(other)
