"""Key files of tests."""

from cryptography.hazmat.primitives import serialization


def write_key(key, path):
    """Writes a private key (PEM) that only its owner may read; returns the path."""
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(*form))
    path.chmod(0o600)
    return path
