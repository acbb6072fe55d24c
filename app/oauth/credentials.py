"""Credentials as they lie in the vault: JSON of one secret by its kind: ``refresh_token``, ``api_key``, or ``login``,
whose secret is JSON of login and password."""

from __future__ import annotations

import hashlib

import orjson


def content_of(kind: str, secret: str) -> bytes:
    """What is encrypted for a secret."""
    return orjson.dumps({kind: secret})


def secret_of(kind: str, content: bytes) -> str:
    """The secret of an opened credential. Raises ``ValueError`` for content of another form, and never quotes it."""
    try:
        secret = orjson.loads(content)[kind]
    except (ValueError, KeyError, TypeError):
        raise ValueError("not a credential of this kind") from None
    if not isinstance(secret, str) or not secret:
        raise ValueError("not a credential of this kind")
    return secret


def fingerprint(secret: str) -> str:
    """A short name for a secret, the same each time: cut so far that it tells nothing of it."""
    return hashlib.sha256(b"connector-service|" + secret.encode()).hexdigest()[:24]
