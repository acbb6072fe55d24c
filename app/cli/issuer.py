"""A token issuer for one's own machine. Its key lies in the stack's folder; production has an identity provider
instead."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import ECKey

from api.rest.auth import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER
from app.cli.environment import write_private

SCOPES = ("fetch", "connectors:read", "connectors:write", "admin")


@dataclass(frozen=True)
class DevelopmentIssuer:
    """Signs tokens with the key in ``folder``, which is made on first use (mode 600), with the matching JWKS beside
    it."""

    folder: Path
    issuer: str = DEVELOPMENT_ISSUER
    audience: str = DEVELOPMENT_AUDIENCE

    @property
    def jwks_file(self) -> Path:
        """What ``CONNECTOR__AUTH__JWKS_FILE`` names."""
        return self.folder / "jwks.json"

    @property
    def key_file(self) -> Path:
        """The private key."""
        return self.folder / "signing-key.json"

    def prepare(self) -> ECKey:
        """The key; makes it and the JWKS file where they are missing."""
        path = self.key_file
        if not path.exists():
            made = ECKey.generate_key("P-256", {"kid": f"development-{int(time.time())}", "use": "sig"})
            write_private(path, json.dumps(made.as_dict(private=True)))
        key = ECKey.import_key(json.loads(path.read_text(encoding="utf-8")))
        write_private(self.jwks_file, json.dumps({"keys": [key.as_dict(private=False)]}))
        return key

    def token(self, org_id: int, scopes: tuple[str, ...], *, subject: str, valid_s: int, now_s: int) -> str:
        """A token valid for ``valid_s`` seconds from ``now_s`` (seconds since the epoch)."""
        key = self.prepare()
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": subject,
            "org_id": org_id,
            "scope": " ".join(scopes),
            "iat": now_s,
            "exp": now_s + valid_s,
        }
        return jwt.encode({"alg": "ES256", "kid": key.kid}, claims, key)
