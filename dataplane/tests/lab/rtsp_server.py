# A GStreamer RTSP server: one second of a tone in packets of 160 bytes at rtsp://.../tone. Argument: its port.
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

Gst.init(None)
tone = GstRtspServer.RTSPMediaFactory.new()
tone.set_launch(
    "( audiotestsrc is-live=true num-buffers=50 samplesperbuffer=160 ! audio/x-raw,rate=8000,channels=1"
    " ! mulawenc ! rtppcmupay name=pay0 pt=0 min-ptime=20000000 max-ptime=20000000 )"
)
server = GstRtspServer.RTSPServer.new()
server.set_service(sys.argv[1])
server.get_mount_points().add_factory("/tone", tone)
server.attach(None)
GLib.MainLoop().run()
