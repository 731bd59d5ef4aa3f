"""A client of OCI registries (OCI distribution-spec 1.1): blobs and manifests by digest, and referrers.

Trust: none in the registry. Blobs go into a store that checks their digest, manifests are compared with the digest that
was asked for, and what is listed is only listed. Credentials come from Docker's configuration file and go to the
registry, and to the token server that it names itself, as the token specification has it; to nobody else. TLS is
required but on loopback.
"""

import base64
import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit

import requests

from images.encoding import canonical_json, sha256_hex
from images.errors import InputError, SourceError
from images.oci import INDEX_TYPE, MANIFEST_TYPE

MANIFEST_BYTES_MAX = 4 << 20  # what registries must take (distribution-spec 1.1, pushing manifests)
_SECONDS = (10.0, 300.0)  # to connect, and between two bytes
_CHUNK = 1 << 20
_REDIRECTS = (301, 302, 303, 307, 308)
_REDIRECTS_MAX = 5
_REPOSITORY = re.compile(r"([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?/([a-z0-9]+([._/-][a-z0-9]+)*)")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750, section 2.1
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository in a registry: `host[:port]` and path."""

    host: str
    path: str

    @property
    def loopback(self) -> bool:
        """Whether the registry is this machine."""
        return _is_loopback(f"//{self.host}")

    @property
    def url(self) -> str:
        """Where its API begins."""
        return f"{'http' if self.loopback else 'https'}://{self.host}/v2/{self.path}"


def parse_repository(text: str) -> Repository:
    """Parse `HOST[:PORT]/PATH`.

    Raises:
        ValueError: It is something else, such as a URL, or has a tag.
    """
    found = _REPOSITORY.fullmatch(text)
    if found is None:
        raise ValueError(f"not a repository: {text!r}")
    repository = Repository(host=found[1] + (found[2] or ""), path=found[3])
    try:
        urlsplit(repository.url).port  # noqa: B018 - raises where there is none to be had
    except ValueError as err:
        raise ValueError(f"not a repository: {text!r}") from err
    return repository


class Registry:
    """One repository.

    Raises:
        SourceError: From every method, where the registry cannot be reached or refuses.
    """

    def __init__(self, repository: Repository, *, credentials: str | None = None) -> None:
        self._repository = repository
        self._credentials = credentials
        self._authorization: str | None = None
        self._session = requests.Session()
        self._session.trust_env = not repository.loopback  # no proxy stands between this machine and itself
        self._session.auth = _as_it_is  # else a .netrc would replace the header that answers a challenge
        self._session.headers["Accept-Encoding"] = "identity"

    def has_blob(self, sha256: str) -> bool:
        """Tell whether the repository has a blob."""
        return self._call("HEAD", f"blobs/sha256:{sha256}", ok=(200, 404)).status_code == 200

    def put_blob(self, sha256: str, open_blob: Callable[[], BinaryIO]) -> bool:
        """Upload a blob in one piece; False if the repository has it already."""
        if self.has_blob(sha256):
            return False
        begun = self._call("POST", "blobs/uploads/", ok=(202,))
        location = self._resolved(begun, "an upload")
        if not self._is_ours(location):
            raise SourceError(f"registry {self._repository.host} sends uploads elsewhere: {urlsplit(location).netloc}")
        target = location + ("&" if "?" in location else "?") + f"digest=sha256:{sha256}"
        self._call("PUT", target, ok=(201,), open_body=open_blob, headers={"Content-Type": "application/octet-stream"})
        return True

    def get_blob(self, sha256: str) -> Iterator[bytes]:
        """Yield a blob. Untrusted: its digest is checked by who stores it."""
        answer = self._call("GET", f"blobs/sha256:{sha256}", ok=(200, *_REDIRECTS))
        for _ in range(_REDIRECTS_MAX):  # to where the registry keeps its blobs, which gets no credentials of ours
            if answer.status_code in _REDIRECTS:
                answer = self._send("GET", self._resolved(answer, "a blob"), None, None, None)
        if answer.status_code != 200:
            raise SourceError(f"registry {self._repository.host} does not give sha256:{sha256[:12]}")
        try:
            yield from answer.iter_content(_CHUNK)
        except requests.RequestException as err:
            raise SourceError(f"registry {self._repository.host} broke off sending sha256:{sha256[:12]}") from err
        finally:
            answer.close()

    def put_manifest(self, manifest: bytes, *, tag: str = "") -> None:
        """Upload a manifest under its digest, and under a tag where one is given.

        Raises:
            InputError: The registry stored something else.
        """
        digest = f"sha256:{sha256_hex(manifest)}"
        for reference in (digest, *([tag] if tag else [])):
            answer = self._call(
                "PUT", f"manifests/{reference}", ok=(201,), body=manifest, headers={"Content-Type": MANIFEST_TYPE}
            )
            if answer.headers.get("Docker-Content-Digest", digest) != digest:
                raise InputError(f"registry {self._repository.host} changed the manifest {digest}")
        subject = json.loads(manifest).get("subject")
        if subject is not None and "OCI-Subject" not in answer.headers:
            self._list_as_referrer(subject["digest"], manifest, digest)

    def get_manifest(self, reference: str) -> bytes | None:
        """Return a manifest by digest or tag, or None.

        Raises:
            InputError: It is not what its digest says, or too large.
        """
        headers = {"Accept": f"{MANIFEST_TYPE}, {INDEX_TYPE}"}
        answer = self._call("GET", f"manifests/{reference}", ok=(200, 404), headers=headers)
        if answer.status_code == 404:
            return None
        data = self._bounded(answer)
        if reference.startswith("sha256:") and reference != f"sha256:{sha256_hex(data)}":
            raise InputError(f"registry {self._repository.host} sent another manifest than {reference}")
        return data

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """Return the descriptors of all manifests whose subject is a digest.

        Registries without the referrers API, such as docker-registry 2.8, list them under a tag (distribution-spec 1.1,
        referrers tag schema).
        """
        answer = self._call("GET", f"referrers/{digest}", ok=(200, 404))
        data = self._bounded(answer) if answer.status_code == 200 else self.get_manifest(_fallback_tag(digest))
        if data is None:
            return []
        try:
            found = json.loads(data)["manifests"]
            if not all(isinstance(d, dict) and isinstance(d["digest"], str) for d in found):
                raise ValueError("a descriptor without a digest")
            return list(found)
        except (KeyError, TypeError, ValueError, RecursionError) as err:
            raise InputError(f"registry {self._repository.host} sent a malformed list of referrers") from err

    def _list_as_referrer(self, subject: str, manifest: bytes, digest: str) -> None:
        document = json.loads(manifest)
        descriptor = {
            "mediaType": MANIFEST_TYPE,
            "digest": digest,
            "size": len(manifest),
            "artifactType": document["artifactType"],
        }
        if "annotations" in document:
            descriptor["annotations"] = document["annotations"]
        others = [d for d in self.referrers(subject) if d["digest"] != digest]
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [*others, descriptor]}
        self._call(
            "PUT",
            f"manifests/{_fallback_tag(subject)}",
            ok=(201,),
            body=canonical_json(index),
            headers={"Content-Type": INDEX_TYPE},
        )

    def _call(
        self,
        method: str,
        path: str,
        *,
        ok: tuple[int, ...],
        body: bytes | None = None,
        open_body: Callable[[], BinaryIO] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Do one request of the registry itself; a challenge is answered once, and no redirect is followed."""
        url = path if "://" in path else f"{self._repository.url}/{path}"
        answer = self._send(method, url, headers, body, open_body)
        if answer.status_code == 401:
            self._authorization = self._answer(answer.headers.get("WWW-Authenticate", ""))
            answer = self._send(method, url, headers, body, open_body)
        if answer.status_code not in ok:
            hint = "log in with `docker login`" if answer.status_code in (401, 403) else ""
            raise SourceError(
                f"registry {self._repository.host} answered {answer.status_code} to {method} of {path[:80]}", hint=hint
            )
        return answer

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        body: bytes | None,
        open_body: Callable[[], BinaryIO] | None,
    ) -> requests.Response:
        self._check_transport(url)
        sent = dict(headers or {})
        if self._authorization and self._is_ours(url):
            sent["Authorization"] = self._authorization
        data = open_body() if open_body else body
        try:
            answer = self._session.request(
                method, url, headers=sent, data=data, timeout=_SECONDS, stream=True, allow_redirects=False
            )
        except (requests.RequestException, ValueError) as err:  # ValueError: an address that cannot be one
            raise SourceError(f"registry does not answer: {self._repository.host}") from err
        finally:
            if open_body and data is not None and not isinstance(data, bytes):
                data.close()
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise InputError(f"registry {self._repository.host} sent an encoding that was not asked for")
        return answer

    def _is_ours(self, url: str) -> bool:
        """Tell whether an address is the registry's own, its port named or not."""
        one, other = urlsplit(url), urlsplit(self._repository.url)
        standard = {"https": 443, "http": 80}
        places = [(u.scheme, u.hostname, u.port or standard.get(u.scheme)) for u in (one, other)]
        return places[0] == places[1]

    def _resolved(self, answer: requests.Response, what: str) -> str:
        """Return where an answer points to."""
        try:
            location = urljoin(answer.url, answer.headers.get("Location", ""))
            urlsplit(location).port  # noqa: B018 - raises where there is none to be had
        except ValueError as err:
            raise SourceError(f"registry {self._repository.host} sends {what} to no address") from err
        return location

    def _check_transport(self, url: str) -> None:
        """TLS, or loopback from loopback: nothing else is spoken to, wherever a registry points."""
        try:
            place = urlsplit(url)
            plain = place.scheme == "http" and self._repository.loopback and _is_loopback(url)
        except ValueError as err:
            raise SourceError(f"registry {self._repository.host} names no address") from err
        if place.scheme != "https" and not plain:
            raise SourceError(f"registry {self._repository.host} names a place without TLS: {place.netloc}")

    def _bounded(self, answer: requests.Response) -> bytes:
        """Read a small answer whole."""
        data = bytearray()
        try:
            for chunk in answer.iter_content(1 << 16):
                data += chunk
                if len(data) > MANIFEST_BYTES_MAX:
                    raise InputError(f"registry {self._repository.host} sent a document that is too large")
        except requests.RequestException as err:
            raise SourceError(f"registry {self._repository.host} broke off") from err
        return bytes(data)

    def _answer(self, challenge: str) -> str:
        """Return the Authorization header that answers a challenge (distribution token specification)."""
        scheme, _, rest = challenge.partition(" ")
        basic = f"Basic {self._credentials}" if self._credentials else None
        if scheme.lower() != "bearer":
            if basic is None:
                raise SourceError(
                    f"registry {self._repository.host} wants credentials", hint="log in with `docker login`"
                )
            return basic
        fields = dict(_CHALLENGE.findall(rest))
        realm = fields.pop("realm", "")
        self._check_transport(realm)
        headers = {"Authorization": basic} if basic else {}
        try:
            answer = self._session.get(
                realm, params=fields, headers=headers, timeout=_SECONDS, stream=True, allow_redirects=False
            )
            document = json.loads(self._bounded(answer)) if answer.status_code == 200 else None
        except (requests.RequestException, ValueError, RecursionError) as err:
            raise SourceError(f"no token for registry {self._repository.host}") from err
        tokens = [document.get(name) for name in ("token", "access_token")] if isinstance(document, dict) else []
        for token in tokens:
            if isinstance(token, str) and _TOKEN.fullmatch(token):
                return f"Bearer {token}"
        raise SourceError(f"no token for registry {self._repository.host}", hint="log in with `docker login`")


def docker_credentials(host: str) -> str | None:
    """Return the base64 of `user:password` that `docker login` stored for a host, or None.

    Credential helpers are other people's programs and are not run.
    """
    folder = os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
    try:
        document = json.loads((Path(folder) / "config.json").read_bytes())
        found = document.get("auths", {}).get(host, {}).get("auth")
        if found is not None:
            base64.b64decode(found, validate=True)
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _fallback_tag(digest: str) -> str:
    return digest.replace(":", "-")


def _is_loopback(url: str) -> bool:
    name = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
