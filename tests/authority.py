"""A time-stamping authority that the openssl command plays."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# No `certs =` line: openssl writes the chain unsorted, and strict readers of DER refuse it.
SETTINGS = """
[tsa]
default_tsa = one
[one]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1, millisecs:500, microsecs:250
ess_cert_id_alg = {hash}
"""
SERIALS = {"root": 1, "tsa": 2}  # a signer is found by the name of its issuer and this
STAMPING = (ExtendedKeyUsageOID.TIME_STAMPING,)


def usage(what):
    names = "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign "
    return x509.KeyUsage(**{name: name == what for name in (names + "crl_sign encipher_only decipher_only").split()})


class Authority:
    """A root, and an authority under it which answers queries; both are called the same in every authority."""

    def __init__(self, folder: Path, *, kind="EC", hash_of_certificate="sha256", uses=STAMPING, years=(2020, 2040)):
        # No package plays an authority, and `test_a_kept_stamp_stays_good` verifies a kept answer everywhere.
        if shutil.which("openssl") is None:
            pytest.skip("the openssl command is missing, which plays the time-stamping authority")
        self.folder = folder
        folder.mkdir()
        self.settings = folder / "openssl.cnf"
        self.settings.write_text(SETTINGS.format(folder=folder, hash=hash_of_certificate))
        (folder / "serial").write_text("01\n")
        make = {
            "EC": lambda: ec.generate_private_key(ec.SECP256R1()),
            "RSA": lambda: rsa.generate_private_key(65537, 2048),
        }
        root, key = make[kind](), make[kind]()
        ca = x509.BasicConstraints(ca=True, path_length=None)
        # Roots of one name are told apart by their keys, as in the world.
        own, of_root = (
            x509.SubjectKeyIdentifier.from_public_key(root.public_key()),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()),
        )
        self._certify("root", root, root, (2015, 2040), [(ca, True), (usage("key_cert_sign"), True), (own, False)])
        use = [(usage("digital_signature"), True), (x509.ExtendedKeyUsage(uses), True), (of_root, False)]
        self._certify("tsa", key, root, years, use)
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / "tsa.key").write_bytes(key.private_bytes(*form))

    def _certify(self, name, key, by, years, extensions):
        names = {each: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in ("root", "tsa")}
        begin, end = (datetime(year, 1, 1) for year in years)
        certificate = x509.CertificateBuilder(names["root"], names[name], key.public_key(), SERIALS[name], begin, end)
        for extension, critical in extensions:
            certificate = certificate.add_extension(extension, critical)
        signed = certificate.sign(by, hashes.SHA256())
        (self.folder / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    @property
    def root(self) -> Path:
        return self.folder / "root.pem"

    def answer(self, query: bytes, *options: str) -> bytes:
        """The answer to a query; with ``-token_out`` the token alone."""
        (self.folder / "query.tsq").write_bytes(query)
        return self._run("ts", "-reply", "-config", str(self.settings), "-queryfile", "query.tsq", *options)

    def content(self, token: bytes) -> bytes:
        """The TSTInfo of a token."""
        (self.folder / "token").write_bytes(token)
        return self._run("cms", "-verify", "-noverify", "-inform", "DER", "-in", "token", "-binary")

    def sign(self, content: bytes, *options: str) -> bytes:
        """A token over any TSTInfo, as no honest authority makes it."""
        (self.folder / "content").write_bytes(content)
        kind = ("-econtent_type", "1.2.840.113549.1.9.16.1.4", "-nodetach", "-nosmimecap", "-md", "sha256")
        who = ("-signer", "tsa.pem", "-inkey", "tsa.key")
        return self._run("cms", "-sign", "-binary", "-in", "content", *kind, *who, *options, "-outform", "DER")

    def _run(self, *arguments: str) -> bytes:
        done = subprocess.run(["openssl", *arguments], cwd=self.folder, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout
