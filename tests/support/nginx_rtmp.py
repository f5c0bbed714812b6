"""nginx with its RTMP module as an independent server to push to, play from and relay to."""

import contextlib
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.clients import Program, until
from tests.support.free_ports import free_ports

_CONF = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log info;
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
events {{ worker_connections 256; }}
rtmp {{ server {{ listen 127.0.0.1:{rtmp}; chunk_size 4096;
  application stream {{ live on; wait_key on; hls on; hls_path {folder}/hls; hls_fragment 1s; hls_playlist_length 8s; }}
  application dash {{ live on; dash on; dash_path {folder}/dash; dash_fragment 1s; dash_playlist_length 8s; }}
  application hooked {{ live on; {hook} }}
  application keep {{ live on; record all; record_path {folder}/keep; record_suffix -%s.flv; }}
}} }}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{http}; root {folder};
    types {{ application/vnd.apple.mpegurl m3u8; video/mp2t ts; application/dash+xml mpd; video/mp4 m4v m4a mp4; }} }}
}}
"""


@dataclass(frozen=True)
class NginxRtmp:
    """A running nginx. Application `stream` plays RTMP and HLS, `dash` creates DASH, `keep` records pushes.

    `hooked` asks a service about pushes and plays.
    """

    rtmp: int
    http: int
    folder: Path

    def url(self, name: str, application: str = "stream") -> str:
        """The RTMP URL of a stream, to publish and to play."""
        return f"rtmp://127.0.0.1:{self.rtmp}/{application}/{name}"

    def file(self, path: str) -> str:
        """The HTTP URL of a file that it writes: `hls/<name>.m3u8`, `dash/<name>.mpd`."""
        return f"http://127.0.0.1:{self.http}/{path}"

    def kept(self, name: str) -> list[Path]:
        """The FLV files that `keep` recorded for a stream, one for each push, oldest first."""
        return sorted((self.folder / "keep").glob(f"{name}-*.flv"))


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def nginx_rtmp(port: int = 0, hook: str = "") -> Iterator[NginxRtmp]:
    """Runs nginx on free ports in a temporary folder. port: of RTMP. hook: the URL that `hooked` asks."""
    with tempfile.TemporaryDirectory(prefix="millrace-nginx-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "keep").mkdir()
        (folder / "keep").chmod(0o777)  # if root starts nginx, its workers run as nobody
        rtmp, http = free_ports(2, "127.0.0.1")
        rtmp = port or rtmp
        asking = f"on_publish {hook}; on_play {hook};" if hook else ""
        (folder / "nginx.conf").write_text(_CONF.format(folder=folder, rtmp=rtmp, http=http, hook=asking))
        with Program(["nginx", "-p", name, "-c", str(folder / "nginx.conf")]) as server:

            def listening() -> bool:
                assert server.running, f"nginx ended: {server.errors[-600:]}"
                return is_listening(rtmp)

            until(listening, "nginx listens")
            yield NginxRtmp(rtmp, http, folder)
