"""Every form of URL, and what is wrong with one, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from omniq.errors import ConfigError, InvalidName
from omniq.storage.redis import AsyncRedisStorage
from omniq.storage.redis.address import parse

FORMS: dict[str, dict[str, Any]] = {
    "redis://": {"mode": "plain", "nodes": (("localhost", 6379),), "tls": False},
    "redis://h": {"nodes": (("h", 6379),), "login": {"db": 0}},
    "valkey://h:7000/3": {"nodes": (("h", 7000),), "login": {"db": 3}},
    "rediss://u:p%40ss@h/1": {
        "tls": True,
        "login": {"username": "u", "password": "p@ss", "db": 1},
    },
    "valkeys://:pw@[::1]:1": {"tls": True, "nodes": (("::1", 1),)},
    "redis://h?password=pw&db=2": {"login": {"password": "pw", "db": 2}},
    "redis+cluster://a:1,b:2": {"mode": "cluster", "nodes": (("a", 1), ("b", 2))},
    "redis://h?cluster=true": {"mode": "cluster"},
    "redis+sentinel://:pw@a/main?sentinel_password=other": {
        "login": {"password": "pw", "db": 0},
        "sentinel_login": {"password": "other"},
    },
    "redis+sentinel://a,b:5/main/4": {
        "mode": "sentinel",
        "service": "main",
        "nodes": (("a", 26379), ("b", 5)),
        "login": {"db": 4},
    },
    "unix:///run/redis.sock?db=1": {"path": "/run/redis.sock", "login": {"db": 1}},
    "rediss://h?ssl_ca_certs=/ca.pem&ssl_check_hostname=no": {
        "tls_options": {"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}
    },
}

WRONG: dict[str, str] = {
    "http://h": "it begins with 'http'",
    "redis+pipes://h": "it begins with 'redis\\+pipes'",
    "redis://h:port": "its port is not a number",
    "redis://h/zero": "the number of a database",
    "redis://h/1/2": "the number of a database",
    "redis://h?max_conections=3": "did you mean 'max_connections'",
    "redis://h?timeout=soon": "timeout wants a number",
    "redis://h?timeout=-1": "timeout wants seconds, more than 0",
    "redis://h?cluster=perhaps": "cluster wants true or false",
    "redis://h?ssl_ca_certs=x": "needs TLS",
    "redis+sentinel://h": "names the service",
    "redis+cluster://h/2": "database 0 only",
    "unix://": "needs a path",
}


@pytest.mark.parametrize("url", FORMS)
def test_every_form_says_where_the_server_is(url: str) -> None:
    address, options = parse(url)
    assert {name: getattr(address, name) for name in FORMS[url]} == FORMS[url]
    assert options == {}


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_url_is_refused_with_the_setting_and_what_is_wrong(url: str) -> None:
    with pytest.raises(ConfigError, match=WRONG[url]) as caught:
        AsyncRedisStorage(url)
    assert "OMNIQ_STORAGE_URL" in str(caught.value)


def test_options_may_stand_in_the_query() -> None:
    _, options = parse("redis://h?max_connections=3&wait_replicas=2&wait_timeout=0.5")
    assert options == {"max_connections": 3, "wait_replicas": 2, "wait_timeout": 0.5}


@pytest.mark.parametrize("url", ["redis://user:s3cret@h", "redis://h?password=s3cret"])
def test_a_password_is_nowhere_shown(url: str) -> None:
    storage = AsyncRedisStorage(url)
    assert "s3cret" not in f"{storage.describe()}{storage!r}"
    with pytest.raises(ConfigError) as caught:
        AsyncRedisStorage(f"{url}{'&' if '?' in url else '?'}nothing=1")
    assert "s3cret" not in f"{caught.value}{caught.value.__context__}"


@pytest.mark.parametrize("namespace", ["", "a b", "a{b}", "../x", "a:b", "n\x00"])
def test_a_namespace_is_a_name(namespace: str) -> None:
    with pytest.raises(InvalidName):
        AsyncRedisStorage("redis://h", namespace=namespace)


def test_an_impossible_option_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_connections"):
        AsyncRedisStorage("redis://h", max_connections=0)
    with pytest.raises(ConfigError, match="durability"):
        AsyncRedisStorage("redis://h", durability="safe")  # type: ignore[arg-type]


def test_how_strict_tls_is_has_three_answers() -> None:
    with pytest.raises(ConfigError, match="ssl_cert_reqs wants none, optional or required"):
        AsyncRedisStorage("rediss://host/0?ssl_cert_reqs=nonsense")


@pytest.mark.asyncio
async def test_a_certificate_that_is_not_there_is_named_before_anything_connects() -> None:
    with pytest.raises(ConfigError, match="ssl_ca_certs is '/no/such/file'"):
        await AsyncRedisStorage("rediss://host/0?ssl_ca_certs=/no/such/file").open()
