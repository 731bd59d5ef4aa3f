"""Why a package is there: read from the packages, for the image and not for this machine."""

import pytest

from images.errors import LockError
from images.requirements import deb_reasons, marker_environment, wheel_reasons

ENVIRONMENT = marker_environment("3.11.2", "x86_64")


def test_debs_are_there_for_a_root_or_for_those_that_require_them() -> None:
    fields = {
        "app": {"Depends": "lib (>= 2) | other, awk:any", "Pre-Depends": "base"},
        "lib": {"Depends": "base"},
        "base": {},
        "mawk": {"Provides": "awk (= 1)"},
        "left-over": {"Depends": "base"},
    }
    assert deb_reasons(["app"], fields) == {
        "app": ("root",),
        "lib": ("app",),
        "base": ("app", "lib"),
        "mawk": ("app",),
    }


def test_a_root_that_others_require_says_both() -> None:
    assert deb_reasons(["a", "b"], {"a": {"Depends": "b"}, "b": {}})["b"] == ("root", "a")


def test_wheels_are_there_for_a_root_or_for_those_that_require_them() -> None:
    metadata = {
        "torch": "Name: torch\nRequires-Dist: SymPy>=1\nRequires-Dist: win; sys_platform == 'win32'\n"
        "Requires-Dist: old; python_version < '3.11'\nRequires-Dist: toolkit[blas]==1; platform_system == 'Linux'\n"
        "Requires-Dist: extra; extra == 'opt'\n",
        "sympy": "Name: sympy\n",
        "toolkit": "Name: toolkit\nRequires-Dist: cublas; extra == 'blas'\nRequires-Dist: cufft; extra == 'fft'\n",
        "cublas": "Name: cublas\n",
    }
    assert wheel_reasons(["torch===2"], metadata, ENVIRONMENT) == {
        "torch": ("root",),
        "sympy": ("torch",),
        "toolkit": ("torch",),
        "cublas": ("toolkit",),
    }


def test_a_required_wheel_that_was_not_resolved_is_refused() -> None:
    with pytest.raises(LockError, match="absent"):
        wheel_reasons(["a"], {"a": "Requires-Dist: absent\n"}, ENVIRONMENT)


def test_requirements_in_a_circle_end() -> None:
    assert deb_reasons(["a"], {"a": {"Depends": "b"}, "b": {"Depends": "a"}}) == {"a": ("root", "b"), "b": ("a",)}
