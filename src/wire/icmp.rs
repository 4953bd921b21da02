//! ICMP and ICMPv6: echo, and errors with their quoted packet (RFC 792, RFC 4443).
