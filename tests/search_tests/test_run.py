import pytest

from search.run import dashboard_line


@pytest.mark.parametrize(("mode", "asks"), [("token", True), ("disabled", False), (None, False)])
def test_the_dashboards_line_says_where_its_token_comes_from_if_it_asks_for_one(mode, asks, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    line = dashboard_line("127.0.0.1:8265")
    assert "http://127.0.0.1:8265" in line
    assert ("ray get-auth-token" in line) is asks
