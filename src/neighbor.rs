//! Who answers at which MAC: ARP and ND resolution with a bounded queue of frames that wait (RFC 826, RFC 4861).
