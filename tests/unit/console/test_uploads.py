"""Uploads of the console: what they say about a failure."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.node import CONSOLE, run

_MAP = re.search(r'<script type="importmap">(.*?)</script>', (CONSOLE / "app" / "index.html").read_text(), re.S)
assert _MAP, "the page names its libraries"
_LIBRARIES = {
    name: path.replace("/console", CONSOLE.as_uri(), 1) for name, path in json.loads(_MAP[1])["imports"].items()
}

# A page in which every upload fails without words of the store, as to a bucket of Amazon S3.
_PAGE = f"""
import {{ registerHooks }} from "node:module";
const libraries = {json.dumps(_LIBRARIES)};
registerHooks({{ resolve: (name, context, next) => next(libraries[name] ?? name, context) }});
globalThis.location = new URL("https://console.example/");
globalThis.document = {{ cookie: "" }};
const offer = {{ key: "a.mp4", url: input.url, method: "PUT", headers: {{}} }};
globalThis.fetch = async () => Response.json(offer);
globalThis.XMLHttpRequest = class extends EventTarget {{
  upload = new EventTarget();
  open() {{}}
  send() {{ this.dispatchEvent(new Event("error")); }}
}};
"""
_SEND = """
const upload = new Upload({ name: "film.mp4", size: input.size });
await upload.start();
out([upload.progress.value.state, upload.tooLarge]);
"""
BUCKET = "https://media.s3.eu-central-1.amazonaws.com/a.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0a"
GATEWAY = "https://console.example/uploads/a.mp4?expires=1&sign=0a"


@pytest.mark.parametrize(
    ("url", "size", "too_large"),
    [(BUCKET, 5_368_709_120, False), (BUCKET, 5_368_709_121, True), (GATEWAY, 5_368_709_121, False)],
)
def test_a_failed_upload_to_a_bucket_says_that_the_file_is_too_large(url: str, size: int, too_large: bool) -> None:
    given = {"url": url, "size": size}
    assert run("app/views/films/upload.js", "Upload", _SEND, given, before=_PAGE) == ["failed", too_large]
