# A GStreamer RTSP server, argument: its port. rtsp://.../tone is one second of a tone in packets of 160 bytes, rtsp://.../chord two
# such streams.
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer


def tone(number):
    return (
        "audiotestsrc is-live=true num-buffers=50 samplesperbuffer=160 ! audio/x-raw,rate=8000,channels=1"
        f" ! mulawenc ! rtppcmupay name=pay{number} pt=0 min-ptime=20000000 max-ptime=20000000"
    )


Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_service(sys.argv[1])
for path, streams in (("/tone", 1), ("/chord", 2)):
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_launch("( " + " ".join(tone(number) for number in range(streams)) + " )")
    server.get_mount_points().add_factory(path, factory)
server.attach(None)
GLib.MainLoop().run()
