"""A small trading platform to respond to, with what is needed to break it and to raise its alerts.

It exists so that the main job can be shown and tested without anybody's production. Nothing here acts on anything but
loopback, and no other part of the responder imports it.
"""
