"""What `push` and `pull` share."""

from executor.errors import RequestError
from images.registry import Registry, docker_credentials, parse_repository


def open_registry(text: str) -> Registry:
    """Open the repository that a person named.

    Raises:
        RequestError: It is no repository.
    """
    try:
        repository = parse_repository(text)
    except ValueError as err:
        raise RequestError(
            str(err), hint="HOST[:PORT]/PATH, such as registry.example.org/team/cpu, without a tag"
        ) from err
    return Registry(repository, credentials=docker_credentials(repository.host))
