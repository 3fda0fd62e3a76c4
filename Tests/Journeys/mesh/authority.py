"""A certificate authority for the journeys: what cert-manager or a SPIRE agent would write, and certificates as no honest one would."""

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TRUST_DOMAIN = "cluster.local"
DAY = datetime.timedelta(days=1)


def now():
    """The time as certificates have it."""
    return datetime.datetime.now(datetime.timezone.utc)


def identity(namespace, account, trust_domain=TRUST_DOMAIN):
    """A workload's SPIFFE identity."""
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}"


def new_key(kind="p256"):
    """A private key: p256, p384, ed25519 or rsa."""
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key({"p256": ec.SECP256R1, "p384": ec.SECP384R1}[kind]())


def key_pem(key):
    """PKCS#8, unencrypted."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def pem(*certificates):
    """A chain, the leaf first."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


class Certificate:
    """A leaf with its chain and key."""

    def __init__(self, leaf, chain, key):
        self.leaf, self.chain, self.key = leaf, pem(leaf, *chain), key_pem(key)

    @property
    def serial(self):
        """The serial number in hexadecimal, as a revocation names it."""
        return f"{self.leaf.serial_number:x}"

    def files(self, directory, name="tls"):
        """Writes chain and key; returns their paths."""
        chain, key = Path(directory) / f"{name}.crt", Path(directory) / f"{name}.key"
        replace(key, self.key)
        replace(chain, self.chain)
        return chain, key


class Authority:
    """A root, and an intermediate that issues."""

    def __init__(self, name="journeys"):
        self.root_key, self.key = new_key(), new_key()
        self.root = self._authority(f"{name} root", self.root_key, None, None)
        self.intermediate = self._authority(f"{name} intermediate", self.key, self.root, self.root_key)

    @staticmethod
    def _authority(name, key, parent, parent_key):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(parent.subject if parent else subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now() - DAY).not_valid_after(now() + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0 if parent else 1), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False))
        return builder.sign(parent_key or key, hashes.SHA256())

    @property
    def bundle(self):
        """The root, in PEM."""
        return pem(self.root)

    def issue(self, *names, key="p256", starts=-DAY / 24, ends=DAY, dns=(), addresses=()):
        """A leaf with these URIs; `starts` and `ends` count from now."""
        private = new_key(key)
        others = [x509.UniformResourceIdentifier(name) for name in names] + [x509.DNSName(name) for name in dns] + [
            x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        builder = (
            x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(self.intermediate.subject).public_key(private.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now() + starts).not_valid_after(now() + ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False))
        if others:
            builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=True)
        leaf = builder.sign(self.key, hashes.SHA256())
        return Certificate(leaf, [self.intermediate], private)


def _usage(signs_certificates=False):
    return x509.KeyUsage(
        digital_signature=not signs_certificates, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        key_cert_sign=signs_certificates, crl_sign=signs_certificates, encipher_only=False, decipher_only=False)


def replace(path, content):
    """Replaces a file at once."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(content)
    os.chmod(draft, 0o644)
    draft.rename(path)


class IdentityFiles:
    """The directory from which `weft node --identity-files` takes what others issue: NAMESPACE/ACCOUNT/tls.{crt,key} and ca.crt."""

    def __init__(self, path, authority):
        self.path, self.authority = Path(path), authority
        self._directory(self.path)
        self.trust(authority.bundle)

    def trust(self, bundle):
        """Replaces the roots in force."""
        replace(self.path / "ca.crt", bundle)

    def put(self, namespace, account, certificate=None):
        """Gives an identity its (next) certificate."""
        place = self.path / namespace / account
        self._directory(place.parent)
        self._directory(place)
        (certificate or self.authority.issue(identity(namespace, account))).files(place)

    @staticmethod
    def _directory(path):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
