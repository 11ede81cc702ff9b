"""Password proofs of the two sign-in methods: mysql_native_password and caching_sha2_password.

Source: MySQL internals, "Authentication method" pages. `nonce` is the server's 20 random bytes.
"""

from __future__ import annotations

from hashlib import sha1, sha256

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

NATIVE = "mysql_native_password"
CACHING_SHA2 = "caching_sha2_password"
FAST_AUTH_OK, FULL_AUTH, REQUEST_KEY = b"\x01\x03", b"\x01\x04", b"\x02"


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def proof(plugin: str, password: str, nonce: bytes) -> bytes | None:
    """What a client answers to `nonce`; empty for an empty password, None for a method we do not know."""
    secret = password.encode()
    if plugin == NATIVE:
        once = sha1(secret).digest()
        return _xor(once, sha1(nonce + sha1(once).digest()).digest()) if secret else b""
    if plugin == CACHING_SHA2:
        first = sha256(secret).digest()
        return _xor(first, sha256(sha256(first).digest() + nonce).digest()) if secret else b""
    return None


def sealed_password(password: str, nonce: bytes, public_key: bytes) -> bytes:
    """The password for caching_sha2_password's full sign-in without TLS, under the server's RSA key (PEM)."""
    key = serialization.load_pem_public_key(public_key)
    if not isinstance(key, RSAPublicKey):
        raise ValueError("the server's public key is not an RSA key")
    secret = password.encode() + b"\0"
    pad = (nonce * (len(secret) // len(nonce) + 1))[: len(secret)]
    scheme = padding.OAEP(mgf=padding.MGF1(algorithm=hashes.SHA1()), algorithm=hashes.SHA1(), label=None)
    return key.encrypt(_xor(secret, pad), scheme)
