"""The operator's flags: what a variable or a flag that is empty does."""

import pytest

from penstock_operator import settings

FILLED = {
    "operator-namespace": "PENSTOCK_OPERATOR_NAMESPACE",
    "operator-id": "PENSTOCK_OPERATOR_ID",
    "lease-name": "PENSTOCK_LEASE_NAME",
    "dispatcher-address": "PENSTOCK_DISPATCHER_ADDRESS",
    "http-host": "PENSTOCK_HTTP_HOST",
    "http-port": "PENSTOCK_HTTP_PORT",
    "log-level": "PENSTOCK_LOG_LEVEL",
}


@pytest.mark.parametrize("flag", FILLED)
def test_empty_is_as_good_as_unset(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert settings.read([], {FILLED[flag]: ""}) == settings.read([], {})
    with pytest.raises(SystemExit) as caught:
        settings.read([f"--{flag}="], {})
    assert caught.value.code == 2
    assert f"--{flag}: must not be empty" in capsys.readouterr().err


def test_empty_says_something_where_the_help_says_so() -> None:
    found = settings.read(
        [], {"PENSTOCK_WORKER_TOKEN_SECRET": "", "PENSTOCK_TEMPLATE_SERVICE_ACCOUNTS": ""}
    )
    assert found.workers.token_secret == ""
    assert found.security.service_accounts == {""}
    assert settings.read(["--worker-token-secret="], {}).workers.token_secret == ""
