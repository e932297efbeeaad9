"""Keys and certificates: made, and read back without starting a program."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import ResourceError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from agent.host.private import Derived

    PrivateKey = EllipticCurvePrivateKey | RSAPrivateKey

_SELF_SIGNED_DAYS = 800
"""Below the 825 days that some clients still accept of any certificate."""
_SKEW = 3600.0
"""How far a clock may be behind that is shown a self-signed certificate just made."""


@dataclass(frozen=True, slots=True)
class KeyType:
    """An algorithm and its size in bits: `ecdsa` 256 or 384, `rsa` 2048 and more."""

    algorithm: str
    bits: int

    def __str__(self) -> str:
        return f"{self.algorithm} {self.bits}"


@dataclass(frozen=True, slots=True)
class Pair:
    """A private key and its certificate with the chain up to a root, both as PEM. It cannot print the key."""

    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"Pair({self.digest})"

    @property
    def digest(self) -> str:
        """What tells one chain from another."""
        return hashlib.sha256(self.chain).hexdigest()


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says of itself; times are seconds since the epoch."""

    domains: tuple[str, ...]
    key: str
    issuer: str
    self_signed: bool
    not_before: float
    not_after: float
    fits_key: bool

    def renew_at(self, before: float) -> float:
        """When it is to be renewed: so many seconds before its end, but never within its first two thirds."""
        return self.not_after - min(before, (self.not_after - self.not_before) / 3)


def recalled(pair: Pair, derived: Derived) -> Certificate:
    """The same as `parse`, worked out once for each pair."""
    facts: dict[str, Any] = derived.of("certificate", pair.chain + b"\0" + pair.key, lambda: asdict(parse(pair)))
    return Certificate(**{**facts, "domains": tuple(facts["domains"])})


def parse(pair: Pair) -> Certificate:
    """What stands in the first certificate of a chain. Raises ResourceError, naming the part that is damaged."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        leaf = x509.load_pem_x509_certificates(pair.chain)[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        domains = tuple(sorted(name.lower() for name in names.get_values_for_type(x509.DNSName)))
        public = leaf.public_key()
    except x509.ExtensionNotFound:
        domains, public = (), leaf.public_key()
    except (ValueError, IndexError):
        raise ResourceError("fullchain.pem holds no readable certificate") from None
    try:
        key = load_pem_private_key(pair.key, password=None)
    except (ValueError, TypeError):
        raise ResourceError("privkey.pem holds no readable key") from None
    return Certificate(
        domains=domains,
        key=_describe(public),
        issuer=leaf.issuer.rfc4514_string() or "nobody",
        self_signed=leaf.issuer == leaf.subject,
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
        fits_key=key.public_key() == public,
    )


def _describe(public: object) -> str:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if isinstance(public, EllipticCurvePublicKey):
        return f"ecdsa {public.key_size}"
    return f"rsa {public.key_size}" if isinstance(public, RSAPublicKey) else "of another type"


def new_key(kind: KeyType) -> PrivateKey:
    """A new private key."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if kind.algorithm == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=kind.bits)
    return ec.generate_private_key(ec.SECP384R1() if kind.bits == 384 else ec.SECP256R1())


def key_pem(key: PrivateKey) -> bytes:
    """A private key as unencrypted PKCS #8."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def request(key: PrivateKey, domains: Sequence[str]) -> bytes:
    """A certificate signing request (RFC 2986) for these names, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(_names(domains), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def self_signed(kind: KeyType, domains: Sequence[str], now: float) -> Pair:
    """A new key, and a server's certificate for these names that it signed itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = new_key(kind)
    common = domains[0] if len(domains[0]) <= 64 else "state-agent"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    start = datetime.datetime.fromtimestamp(now - _SKEW, datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=_SELF_SIGNED_DAYS))
        .add_extension(_names(domains), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Pair(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), key_pem(key))


def _names(domains: Sequence[str]) -> x509.SubjectAlternativeName:
    from cryptography import x509

    return x509.SubjectAlternativeName([x509.DNSName(domain) for domain in domains])
