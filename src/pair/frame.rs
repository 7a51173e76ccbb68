//! The frames that a peer would send: an acknowledgement, or a request that bears one. Bytes alone;
//! no socket.

use std::net::SocketAddrV4;

/// Ethernet, IPv4 and TCP headers, of which TCP's has the timestamps option.
const HEADER_BYTES: usize = ETHERNET_BYTES + IP_BYTES + TCP_BYTES;
const ETHERNET_BYTES: usize = 14;
const IP_BYTES: usize = 20;
const TCP_BYTES: usize = 20 + STAMPS_BYTES;
/// The option, and what aligns it ([RFC 7323](https://www.rfc-editor.org/rfc/rfc7323#appendix-A)).
const STAMPS_BYTES: usize = 12;
/// A request is the number of messages that it asks for.
pub(super) const REQUEST_BYTES: usize = 8;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
/// The largest window there is, if it is scaled by [`WINDOW_SHIFT`]: 1 GiB.
const WINDOW: u16 = u16::MAX;
/// The window scale, the largest that [RFC 7323](https://www.rfc-editor.org/rfc/rfc7323) allows.
pub(super) const WINDOW_SHIFT: u8 = 14;

/// One direction of a connection, as the headers name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direction {
    pub(super) from_mac: [u8; 6],
    pub(super) to_mac: [u8; 6],
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
}

/// The numbers of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) sequence: u32,
    /// Everything before this was received.
    pub(super) acknowledged: u32,
    /// When it was sent, in milliseconds of the sender's clock.
    pub(super) stamp_ms: u32,
    /// When the other side sent what it acknowledges, on that side's clock.
    pub(super) echo_ms: u32,
}

/// A frame, and how many bytes of it there are.
pub(super) struct Frame {
    bytes: [u8; HEADER_BYTES + REQUEST_BYTES],
    length: usize,
}

impl Frame {
    /// A segment that acknowledges. With a payload it is a request.
    ///
    /// See [RFC 9293](https://www.rfc-editor.org/rfc/rfc9293#section-3.1) and
    /// [RFC 791](https://www.rfc-editor.org/rfc/rfc791#section-3.1).
    pub(super) fn new(direction: &Direction, segment: Segment, payload: Option<[u8; REQUEST_BYTES]>) -> Self {
        let Direction { from_mac, to_mac, from, to } = direction;
        let mut bytes = [0; HEADER_BYTES + REQUEST_BYTES];
        let length = HEADER_BYTES + payload.map_or(0, |payload| payload.len());
        bytes[..6].copy_from_slice(to_mac);
        bytes[6..12].copy_from_slice(from_mac);
        bytes[12..14].copy_from_slice(&0x0800_u16.to_be_bytes());

        let ip = &mut bytes[ETHERNET_BYTES..];
        ip[0] = 0x45; // version 4, a header of five words
        ip[2..4].copy_from_slice(&((length - ETHERNET_BYTES) as u16).to_be_bytes());
        ip[6] = 0x40; // do not fragment
        ip[8] = 64; // time to live
        ip[9] = libc::IPPROTO_TCP as u8;
        ip[12..16].copy_from_slice(&from.ip().octets());
        ip[16..20].copy_from_slice(&to.ip().octets());
        let sum = checksum(0, &ip[..IP_BYTES]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());

        let tcp = &mut ip[IP_BYTES..length - ETHERNET_BYTES];
        tcp[..2].copy_from_slice(&from.port().to_be_bytes());
        tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
        tcp[4..8].copy_from_slice(&segment.sequence.to_be_bytes());
        tcp[8..12].copy_from_slice(&segment.acknowledged.to_be_bytes());
        tcp[12] = ((TCP_BYTES / 4) << 4) as u8; // the header's length in words
        tcp[13] = if payload.is_some() { ACK | PSH } else { ACK };
        tcp[14..16].copy_from_slice(&WINDOW.to_be_bytes());
        tcp[20..24].copy_from_slice(&[1, 1, 8, 10]); // two that do nothing; timestamps, of ten bytes
        tcp[24..28].copy_from_slice(&segment.stamp_ms.to_be_bytes());
        tcp[28..32].copy_from_slice(&segment.echo_ms.to_be_bytes());
        if let Some(payload) = payload {
            tcp[TCP_BYTES..].copy_from_slice(&payload);
        }
        // The pseudo header: both addresses, the protocol and the segment's length.
        let pseudo = words(&from.ip().octets()) + words(&to.ip().octets());
        let sum = checksum(pseudo + libc::IPPROTO_TCP as u32 + tcp.len() as u32, tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        Self { bytes, length }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The sum of big-endian words of 16 bits. There is an even number of bytes.
fn words(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
}

/// The Internet checksum of `bytes` and of what was summed up before
/// ([RFC 1071](https://www.rfc-editor.org/rfc/rfc1071)).
fn checksum(before: u32, bytes: &[u8]) -> u16 {
    let mut sum = before + words(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const DIRECTION: Direction = Direction {
        from_mac: [2, 0, 0, 0, 0, 1],
        to_mac: [2, 0, 0, 0, 0, 2],
        from: SocketAddrV4::new(Ipv4Addr::new(10, 200, 2, 2), 9),
        to: SocketAddrV4::new(Ipv4Addr::new(10, 200, 2, 1), 40000),
    };

    #[test]
    fn the_checksum_is_that_of_the_rfcs_own_example() {
        assert_eq!(checksum(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn the_sums_of_a_frame_come_out_as_a_receiver_checks_them() {
        for payload in [None, Some([1, 2, 3, 4, 5, 6, 7, 8])] {
            let segment = Segment {
                sequence: 0xffff_fff0,
                acknowledged: 0x8000_0001,
                stamp_ms: 0x0102_0304,
                echo_ms: 5,
            };
            let frame = Frame::new(&DIRECTION, segment, payload);
            let ip = &frame.bytes()[14..];
            assert_eq!(checksum(0, &ip[..20]), 0, "a correct sum sums up to nothing");
            let tcp = &ip[20..];
            let pseudo = words(&ip[12..20]) + 6 + tcp.len() as u32;
            assert_eq!(checksum(pseudo, tcp), 0);
            assert_eq!(tcp.len(), 32 + payload.map_or(0, |payload| payload.len()));
            assert_eq!(tcp[12], 8 << 4, "eight words of header");
            assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len());
            assert_eq!(tcp[4..12], [0xff, 0xff, 0xff, 0xf0, 0x80, 0, 0, 1]);
            assert_eq!(tcp[20..32], [1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 5]);
        }
    }
}
