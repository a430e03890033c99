"""What NATS cannot be asked for is refused in words that help, and that show no password."""

from __future__ import annotations

import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import nkeys
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from nats.aio.client import Client

from omniq.errors import ConfigError, StorageUnavailable, UnknownOption
from omniq.storage.nats import AsyncNATSStorage
from tests.conformance.kit import insert
from tests.servers.nats import Nats

from .nats_hand import Ruled, by_operator, new_namespace

pytestmark = pytest.mark.asyncio

SECRET = "hunter2-never-shown"
PrivateNats = Callable[..., Nats]
RuledNats = Callable[[str], Ruled]


@pytest.fixture
def ruled_nats(server_folder: Callable[[], Path]) -> Iterator[RuledNats]:
    """Starts a server with a configuration of one's own."""
    with ExitStack() as stack:
        yield lambda rules: stack.enter_context(Ruled(server_folder(), rules))


async def refused(kind: type[Exception], url: str, **options: Any) -> str:
    """Everything one could see of the error when the storage is made and opened."""
    try:
        async with AsyncNATSStorage(url, **{"namespace": new_namespace(), **options}):
            pass
    except kind as error:
        text = str(error)
        assert "nats" in text.lower() or "storage_url" in text or "namespace" in text
        assert SECRET not in "".join(traceback.format_exception(error))
        return text
    pytest.fail("it was not refused")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nats://", "names no host"),
        ("", "names no server"),
        ("nats://host:notaport", "port"),
        ("nats://host:4222/path", "namespace"),
        ("http://host:4222", "begins with one of"),
        ("nats://a:4222,tls://b:4222", "mixes"),
        (f"nats://u:{SECRET}@a:1,v:{SECRET}x@b:2", "different credentials"),
        ("nats://host?replicas=many", "replicas"),
        ("nats://host?replicas=9", "replicas"),
        ("nats://host?sync=never", "sync"),
        ("nats://host?domain=a.b", "domain is a name"),
        ("nats://host?tls_cert=/only/one", "tls_key"),
        (f"nats://u:{SECRET}@host?token={SECRET}", "one of them"),
    ],
)
async def test_an_address_that_cannot_be(url: str, says: str) -> None:
    assert says in await refused(ConfigError, url)


async def test_an_unknown_option_in_the_url() -> None:
    assert "did you mean 'replicas'" in await refused(UnknownOption, "nats://host?replica=3")


@pytest.mark.parametrize("namespace", ["", "a.b", "a b", "a>", "..", "x" * 65, "a\n"])
async def test_a_namespace_that_is_no_plain_word(namespace: str) -> None:
    await refused(ConfigError, "nats://localhost", namespace=namespace)


async def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    text = await refused(ConfigError, "nats://localhost", creds=tmp_path / "none.creds")
    assert "creds" in text


@pytest.mark.parametrize("option", ["creds", "nkey"])
async def test_a_file_that_holds_no_key(nats_url: str, tmp_path: Path, option: str) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET)
    server = nats_url.rpartition("@")[2]
    text = await refused(ConfigError, f"nats://{server}?{option}={file}")
    assert option in text


async def test_what_people_see_has_no_credentials() -> None:
    storage = AsyncNATSStorage(f"nats://me:{SECRET}@one:4222,two:4223?tls_hostname=x")
    assert storage.describe() == "NATS nats://one:4222,two:4223 (default)"
    assert SECRET not in repr(storage._address) + repr(storage)


async def test_nobody_listens() -> None:
    text = await refused(StorageUnavailable, f"nats://me:{SECRET}@127.0.0.1:1")
    assert "cannot be reached" in text
    assert "storage_url" in text


async def test_a_wrong_password(nats_url: str) -> None:
    url = nats_url.replace("a-secret-of-tests", SECRET)
    assert url != nats_url
    assert "does not let this user in" in await refused(ConfigError, url)


async def test_a_server_without_jetstream(private_nats: PrivateNats) -> None:
    assert "-js" in await refused(ConfigError, private_nats(jetstream=False).url)


async def test_more_replicas_than_servers(nats_url: str) -> None:
    assert "replicas=1" in await refused(ConfigError, f"{nats_url}?replicas=3")


async def test_an_account_without_jetstream(ruled_nats: RuledNats) -> None:
    server = ruled_nats("""
        accounts {
            poor: { users: [{user: poor, password: pass}] }
            rich: { jetstream: enabled, users: [{user: rich, password: pass}] }
        }
    """)
    assert "account" in await refused(ConfigError, f"nats://poor:pass@{server.where}")
    async with AsyncNATSStorage(f"nats://rich:pass@{server.where}", namespace=new_namespace()):
        pass


RIGHTS = """
    authorization {{ users: [{{ user: few, password: pass, permissions: {{
        publish: ["$JS.API.>", "$JS.FC.>", {publish}]
        subscribe: ["oq.mine.>"]
    }} }}] }}
"""


async def test_a_user_with_the_rights_of_its_namespace_is_enough(ruled_nats: RuledNats) -> None:
    server = ruled_nats(RIGHTS.format(publish='"oq.mine.>", "$O.OQ_mine.>"'))
    url = f"nats://few:pass@{server.where}"
    async with AsyncNATSStorage(url, namespace="mine") as storage:
        assert await storage.count_tasks() == []
        await storage.apply([insert(body=b"x" * 70_000)])
    text = await refused(ConfigError, url, namespace="others")
    assert "may not use the subject oq.others.inbox" in text


async def test_a_user_that_may_not_write(ruled_nats: RuledNats) -> None:
    server = ruled_nats(RIGHTS.format(publish='"$O.OQ_mine.>"'))
    url = f"nats://few:pass@{server.where}"
    async with AsyncNATSStorage(url, namespace="mine") as storage:
        with pytest.raises(ConfigError, match=r"may not use the subject oq\.mine\.log"):
            await storage.apply([insert()])


async def test_an_nkey_opens(ruled_nats: RuledNats, tmp_path: Path) -> None:
    seed = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    file = tmp_path / "user.nk"
    file.write_bytes(bytes(seed))
    server = ruled_nats(f"authorization {{ users: [{{ nkey: {public} }}] }}")
    async with AsyncNATSStorage(
        f"nats://{server.where}?nkey={file}", namespace=new_namespace()
    ) as storage:
        assert await storage.count_tasks() == []


async def test_a_token_opens(ruled_nats: RuledNats) -> None:
    server = ruled_nats(f"authorization {{ token: {SECRET} }}")
    async with AsyncNATSStorage(f"nats://{SECRET}@{server.where}", namespace=new_namespace()):
        pass
    async with AsyncNATSStorage(f"nats://{server.where}", token=SECRET, namespace=new_namespace()):
        pass
    await refused(ConfigError, f"nats://{server.where}")


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


async def test_tls_opens_for_whom_the_certificates_fit(
    ruled_nats: RuledNats, tmp_path: Path
) -> None:
    certificate, key = _certificate(tmp_path)
    server = ruled_nats(f"""
        tls {{ cert_file: "{certificate}", key_file: "{key}", ca_file: "{certificate}", verify: true }}
    """)
    url = f"tls://{server.where}"
    mine = {"tls_ca": certificate, "tls_cert": certificate, "tls_key": key}
    async with AsyncNATSStorage(url, namespace=new_namespace(), **mine) as storage:
        assert await storage.count_tasks() == []
    assert "tls_ca" in await refused(ConfigError, url)
    assert "do not fit" in await refused(ConfigError, url, **mine | {"tls_key": certificate})


@contextmanager
def _said(hello: bytes) -> Iterator[str]:
    """A server of which only the first words are known, as of one too old to be had."""
    door = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                wire, _ = door.accept()
                with wire, suppress(OSError):
                    wire.sendall(hello)
                    while heard := wire.recv(4096):
                        if b"PING" in heard:
                            wire.sendall(b"PONG\r\n")

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"nats://127.0.0.1:{door.getsockname()[1]}"
    finally:
        door.close()


async def test_a_server_that_is_too_old() -> None:
    hello = b'INFO {"server_id":"x","version":"2.8.4","headers":true,"max_payload":1048576}\r\n'
    with _said(hello) as url:
        text = await refused(ConfigError, url)
    assert "2.8.4 is too old" in text
    assert "2.9" in text


async def test_something_else_listens_there() -> None:
    with _said(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        assert "cannot be reached" in await refused(StorageUnavailable, url)


async def test_a_stream_of_somebody_else(nats_url: str) -> None:
    namespace = new_namespace()

    async def take(client: Client) -> None:
        await client.jetstream().add_stream(name=f"OQ_{namespace}", subjects=[f"x.{namespace}"])

    await by_operator(nats_url, take)
    text = await refused(ConfigError, nats_url, namespace=namespace)
    assert "is not one of OmniQ's" in text
