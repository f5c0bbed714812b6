"""A server that wants a user name and a password in `connect`, in the modes of Adobe and of Limelight."""

import base64
import hashlib
from dataclasses import dataclass, field

SALT, CHALLENGE, OPAQUE, NONCE = "c2FsdA==", "Y2hhbA==", "b3BhcQ==", "bm9uY2U="


@dataclass
class PasswordServer:
    """refusals: those that it has sent. opaque: whether it sends an opaque value, as Wowza does."""

    mode: str
    user: str = "me"
    password: str = "p@ss:word"
    opaque: bool = True
    refusals: list[str] = field(default_factory=list)

    def refusal(self, tc_url: str) -> str:
        """Returns the description of a refusal of `connect`; "": it is accepted."""
        values = dict(pair.split("=", 1) for pair in tc_url.partition("?")[2].split("&") if pair)
        if not values:
            text = f"[ AccessManager.Reject ] : [ code=403 need auth; authmod={self.mode} ] : "
        elif values.pop("authmod") != self.mode or values.pop("user") != self.user:
            text = f"[ AccessManager.Reject ] : [ authmod={self.mode} ] : ?reason=nosuchuser&opaque={OPAQUE}"
        elif not values:
            text = f"[ AccessManager.Reject ] : [ authmod={self.mode} ] : ?reason=needauth&user={self.user}"
            text += f"&nonce={NONCE}" if self.mode == "llnw" else f"&salt={SALT}&challenge={CHALLENGE}"
            text += f"&opaque={OPAQUE}" if self.opaque and self.mode == "adobe" else ""
        elif values != (self._llnw if self.mode == "llnw" else self._adobe)(values):
            text = f"[ AccessManager.Reject ] : [ authmod={self.mode} ] : ?reason=authfailed&opaque={OPAQUE}"
        else:
            return ""
        self.refusals.append(text)
        return text

    def _adobe(self, values: dict[str, str]) -> dict[str, str]:
        first = base64.b64encode(hashlib.md5(f"{self.user}{SALT}{self.password}".encode()).digest())
        middle = (OPAQUE if self.opaque else CHALLENGE).encode()
        last = base64.b64encode(hashlib.md5(first + middle + values["challenge"].encode()).digest())
        expected = {"challenge": values["challenge"], "response": last.decode()}
        return expected | ({"opaque": OPAQUE} if self.opaque else {})

    def _llnw(self, values: dict[str, str]) -> dict[str, str]:
        first = hashlib.md5(f"{self.user}:live:{self.password}".encode()).hexdigest()
        second = hashlib.md5(b"publish:/live/_definst_").hexdigest()
        text = f"{first}:{NONCE}:00000001:{values['cnonce']}:auth:{second}"
        response = hashlib.md5(text.encode()).hexdigest()
        return {"nonce": NONCE, "cnonce": values["cnonce"], "nc": "00000001", "response": response}
