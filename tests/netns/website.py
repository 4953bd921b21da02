"""Python's web server at an address: it lists a directory.

`python3 -m http.server` asks the resolver for its own name before it listens, which takes seconds where no resolver answers.
"""

import functools
import http.server
import ipaddress
import socket
import socketserver
import sys


class Site(http.server.ThreadingHTTPServer):
    def server_bind(self):
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


address, directory = sys.argv[1:]
Site.address_family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=directory)
Site((address, 80), handler).serve_forever()
