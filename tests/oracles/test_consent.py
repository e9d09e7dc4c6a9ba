"""A received model.toml sends nothing anywhere until the person at the keyboard names the host, and the key."""

from __future__ import annotations

import pytest
from hostile_server import HostileServer
from linear_oracle import CLASSES, SHAPE, pictures

from whorl.errors import OracleError, UsageError
from whorl.oracles.opening import open_oracle

INPUTS = pictures(4)
SECRET = "s3cret-value"


def described(folder, url, *, key_env=None):
    """A description as somebody sends it; the shape and classes are the server's."""
    key = f'key_env = "{key_env}"\n' if key_env else ""
    text = (
        f'kind = "http"\nurl = "{url}"\noutput = "logits"\nclasses = {CLASSES}\n'
        f'[input]\nshape = {list(SHAPE)}\n[http]\nmodel = "m"\nretries = 0\n{key}'
    )
    (folder / "model.toml").write_text(text)
    return folder


@pytest.fixture(autouse=True)
def _keys(monkeypatch):
    for name in ("AWS_SECRET", "WHORL_KEY"):
        monkeypatch.setenv(name, SECRET)


@pytest.fixture
def server():
    with HostileServer() as running:
        yield running


def reached(server):
    return bool(server.requests or server.descriptions)


@pytest.mark.parametrize("key_env", [None, "AWS_SECRET", "WHORL_KEY"])
@pytest.mark.parametrize("trust", [(), ("other.example",), ("127.0.0.1:1",), ("127.0.0",), ("0.0.1",)])
def test_a_file_alone_sends_nothing(tmp_path, server, key_env, trust):
    folder = described(tmp_path, server.url, key_env=key_env)
    place = server.url.removeprefix("http://")
    with pytest.raises(UsageError) as refusal:
        open_oracle(folder, trust_hosts=trust).logits(INPUTS)
    assert f"type: --trust-host {place}" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert SECRET not in str(refusal.value)
    assert not reached(server)


def test_naming_another_setting_is_no_consent_to_the_host(tmp_path, server):
    folder = described(tmp_path, server.url)
    with pytest.raises(UsageError, match="--trust-host"):
        open_oracle(folder, key_env="AWS_SECRET", batch=4)
    assert not reached(server)


def test_a_variable_of_the_files_choice_is_not_sent_to_a_trusted_host_either(tmp_path, server):
    folder = described(tmp_path, server.url, key_env="AWS_SECRET")
    for consent in ({"trust_hosts": ["127.0.0.1"]}, {"url": server.url}):
        with pytest.raises(UsageError, match="--set key_env=AWS_SECRET"):
            open_oracle(folder, **consent).logits(INPUTS)
    assert not reached(server)


@pytest.mark.parametrize("consent", ["host", "host and port", "capitals", "url"])
@pytest.mark.parametrize("key_env", [None, "WHORL_KEY"])
def test_who_names_the_host_is_answered(tmp_path, server, consent, key_env):
    folder = described(tmp_path, server.url.replace("127.0.0.1", "localhost"), key_env=key_env)
    port = server.url.rpartition(":")[2]
    given = {
        "host": {"trust_hosts": ["localhost"]},
        "host and port": {"trust_hosts": [f"localhost:{port}"]},
        "capitals": {"trust_hosts": ["LocalHost"]},
        "url": {"url": server.url},
    }[consent]
    assert len(open_oracle(folder, **given).logits(INPUTS)) == 4
    sent = server.headers[0].get("authorization")
    assert sent == (f"Bearer {SECRET}" if key_env else None)


def test_who_names_the_variable_sends_it(tmp_path, server):
    folder = described(tmp_path, server.url, key_env="AWS_SECRET")
    open_oracle(folder, trust_hosts=["127.0.0.1"], key_env="AWS_SECRET").logits(INPUTS)
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}"


def test_an_address_that_is_typed_needs_no_further_consent(server):
    oracle = open_oracle(
        server.url, output="logits", classes=CLASSES, input_shape=SHAPE, model="m", key_env="AWS_SECRET"
    )
    assert len(oracle.logits(INPUTS)) == 4


def test_a_trusted_host_cannot_pass_the_key_on(tmp_path, server):
    with HostileServer(always="elsewhere") as trusted:
        trusted_url, trusted.url = trusted.url, server.url  # what it redirects to
        folder = described(tmp_path, trusted_url, key_env="WHORL_KEY")
        with pytest.raises(OracleError, match="redirects elsewhere"):
            open_oracle(folder, trust_hosts=["127.0.0.1"]).logits(INPUTS)
        assert reached(trusted)
    assert not reached(server)


def test_an_address_inside_an_address_is_not_the_host(tmp_path):
    for url in ("http://trusted.example@evil.example/", "http://evil.example/trusted.example", "http://["):
        with pytest.raises(UsageError) as refusal:
            open_oracle(described(tmp_path, url), trust_hosts=["trusted.example"])
        assert "\n" not in str(refusal.value)
