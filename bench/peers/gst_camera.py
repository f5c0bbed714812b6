"""A camera: GStreamer's RTSP server plays a film in real time. Runs with the system's Python, which has `gi`.

python3 gst_camera.py FILM PORT [CERTIFICATE [USER PASSWORD]]

CERTIFICATE: a PEM file with certificate and key; the address is then rtsps://. USER, PASSWORD: for Digest.

Debian: gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good glib-networking
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

Gst.init(None)
film, port, *secure = sys.argv[1:]
server = GstRtspServer.RTSPServer()
server.set_service(port)
server.set_address("127.0.0.1")
if secure:
    auth = GstRtspServer.RTSPAuth()
    auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(secure[0]))
    if secure[1:]:
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(secure[1], secure[2], token)
    server.set_auth(auth)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f'( filesrc location="{film}" ! qtdemux name=d'
    " d.video_0 ! queue ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1"
    " d.audio_0 ! queue ! aacparse ! rtpmp4gpay name=pay1 pt=97 )"
)
factory.set_latency(0)
if secure[1:]:
    permissions = GstRtspServer.RTSPPermissions()
    for right in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role("viewer", right, True)
    factory.set_permissions(permissions)
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
