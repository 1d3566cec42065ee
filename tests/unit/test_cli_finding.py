"""Which dispatcher is meant: an option wins over the environment, and what runs here is third."""

import pytest

from penstock.cli import failures, finding, forwarding

OPTION, ENVIRONMENT = finding.Said.OPTION, finding.Said.ENVIRONMENT
KUBE = "the kube context"


@pytest.mark.parametrize(
    ("address_by", "kube_by", "implied", "local", "found"),
    [
        (None, None, False, None, "given"),
        (None, None, False, "local", "local"),
        (OPTION, None, False, "local", "given"),
        (ENVIRONMENT, None, False, "local", "given"),
        (None, OPTION, False, "local", KUBE),
        (None, ENVIRONMENT, False, None, KUBE),
        (None, ENVIRONMENT, False, "local", "local"),
        (ENVIRONMENT, OPTION, False, None, KUBE),
        (ENVIRONMENT, ENVIRONMENT, False, None, "given"),
        (OPTION, ENVIRONMENT, False, None, "given"),
        (None, None, True, "local", KUBE),
        (ENVIRONMENT, None, True, None, KUBE),
        (OPTION, None, True, None, "given"),
    ],
)
def test_the_order(
    address_by: finding.Said | None,
    kube_by: finding.Said | None,
    implied: bool,
    local: str | None,
    found: str,
) -> None:
    wanted = finding.Wanted(
        address="given", address_by=address_by, kube_by=kube_by, kube_implied=implied
    )
    looks = [lambda: None if local is None else finding.Found(local)]
    chosen = finding.choose(wanted, local=looks)
    assert (KUBE if chosen is None else chosen.address) == found


def test_the_first_local_dispatcher_is_believed() -> None:
    wanted = finding.Wanted(address="given", address_by=None, kube_by=None)
    first = finding.Found("first", pool="only")
    looks = [lambda: None, lambda: first, lambda: finding.Found("second")]
    assert finding.choose(wanted, local=looks) is first


def test_contradictions_are_refused() -> None:
    both = finding.Wanted(address="given", address_by=OPTION, kube_by=OPTION)
    with pytest.raises(failures.InputError, match="not both"):
        finding.dispatcher(both)
    nowhere = finding.Wanted(address="given", address_by=None, kube_by=None, kube_namespace="a")
    with pytest.raises(failures.InputError, match="add --kube"):
        finding.dispatcher(nowhere)


def test_without_kubectl_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with (
        pytest.raises(failures.NoDispatcherError, match=r"not on PATH.*install it.*--address"),
        forwarding.forwarded(None),
    ):
        pass
