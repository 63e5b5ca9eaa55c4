//! What the ends of a control session say: one dialogue for each protocol, and two in which nothing changes.
//!
//! In each the client asks for the same thing over and over. The answer in between makes room for the next time: SIP, RTSP,
//! TFTP and PPTP refuse, so that each request opens what the one before it had opened; FTP and IRC announce the same
//! endpoint anew, which takes the place of the one before.

use std::net::{Ipv4Addr, SocketAddrV4};

use algate_alg::{Direction, Protocol, ProtocolId, Verdict};

/// A dialogue of a client inside with a server outside.
#[derive(Debug, Clone, Copy)]
pub struct Dialogue {
    /// The item that shows the ALG the request, by itself.
    pub message_name: &'static str,
    /// The item that lets a worker handle the request's packet.
    pub packet_name: &'static str,
    /// Whose ALG reads it; `None`: nobody's.
    pub protocol: Option<ProtocolId>,
    /// What carries it.
    pub transport: Protocol,
    /// The client's port and the server's.
    pub l4_ports: (u16, u16),
    /// What is said once, at the start.
    pub opening: &'static [(Direction, Said)],
    /// What the client asks over and over.
    pub request: fn(SocketAddrV4) -> Vec<u8>,
    /// What the ALG says of it.
    pub verdict: Verdict,
    /// What the server answers the client that it sees there, having heard this.
    pub answer: fn(SocketAddrV4, &[u8]) -> Vec<u8>,
    /// Whether the server, which sees the client there, hears what it should.
    pub is_right: fn(SocketAddrV4, &[u8]) -> bool,
}

/// A message.
pub type Said = fn() -> Vec<u8>;

/// All that are measured by themselves and as packets.
pub const READ: [Dialogue; 6] = [FTP, SIP, RTSP, IRC, TFTP, PPTP];

/// A PORT command (RFC 959 section 5.3).
pub const FTP: Dialogue = Dialogue {
    message_name: "ftp_line",
    packet_name: "ftp_segment",
    protocol: Some(ProtocolId::Ftp),
    transport: Protocol::Tcp,
    l4_ports: (40_000, 21),
    opening: &[(Direction::Reply, || b"220 ready\r\n".to_vec())],
    request: |client| {
        let [a, b, c, d] = client.ip().octets();
        format!("PORT {a},{b},{c},{d},15,161\r\n").into_bytes()
    },
    verdict: Verdict::Rewrite,
    answer: |_, _| b"200 PORT command successful.\r\n".to_vec(),
    is_right: |seen, heard| {
        let [a, b, c, d] = seen.ip().octets();
        heard.starts_with(format!("PORT {a},{b},{c},{d},").as_bytes())
    },
};

/// An INVITE with a description (RFC 3261, RFC 8866), and 486.
pub const SIP: Dialogue = Dialogue {
    message_name: "sip_message",
    packet_name: "sip_datagram",
    protocol: Some(ProtocolId::Sip),
    transport: Protocol::Udp,
    l4_ports: (5060, 5060),
    opening: &[],
    request: invite,
    verdict: Verdict::Rewrite,
    answer: |seen, _| busy(seen),
    is_right: |seen, heard| {
        let text = String::from_utf8_lossy(heard);
        text.contains(&format!("Via: SIP/2.0/UDP {seen};"))
            && text.contains(&format!("Contact: <sip:alice@{seen}>\r\n"))
            && text.contains(&format!("c=IN IP4 {}\r\n", seen.ip()))
            && !text.contains("10.64.")
    },
};

/// A SETUP with a pair of ports (RFC 2326 section 10.4), and 461.
pub const RTSP: Dialogue = Dialogue {
    message_name: "rtsp_message",
    packet_name: "rtsp_segment",
    protocol: Some(ProtocolId::Rtsp),
    transport: Protocol::Tcp,
    l4_ports: (40_000, 554),
    opening: &[],
    request: |_| setup(5000).into_bytes(),
    verdict: Verdict::Rewrite,
    answer: |_, _| b"RTSP/1.0 461 Unsupported transport\r\nCSeq: 3\r\n\r\n".to_vec(),
    is_right: |_, heard| {
        let text = String::from_utf8_lossy(heard);
        let lower = text.split_once("client_port=").and_then(|(_, rest)| rest.split_once('-'));
        lower.and_then(|(lower, _)| lower.parse().ok()).is_some_and(|lower: u16| text == setup(lower))
    },
};

/// An offer of a file (DCC SEND).
pub const IRC: Dialogue = Dialogue {
    message_name: "irc_line",
    packet_name: "irc_segment",
    protocol: Some(ProtocolId::Irc),
    transport: Protocol::Tcp,
    l4_ports: (40_000, 6667),
    opening: &[
        (Direction::Original, || b"NICK al\r\nUSER al 0 * :Al\r\n".to_vec()),
        (Direction::Reply, || b":irc.example.net 001 al :Welcome\r\n".to_vec()),
    ],
    request: |client| offer(*client.ip(), 5000).into_bytes(),
    verdict: Verdict::Rewrite,
    answer: |_, _| b":bob!b@example.net PRIVMSG al :Thank you\r\n".to_vec(),
    is_right: |seen, heard| {
        let text = String::from_utf8_lossy(heard);
        let l4_port = text.split(' ').nth(6).and_then(|word| word.parse().ok());
        l4_port.is_some_and(|l4_port| text == offer(*seen.ip(), l4_port))
    },
};

/// A read request (RFC 1350), which goes on as it is and opens the way for its answer, and ERROR.
pub const TFTP: Dialogue = Dialogue {
    message_name: "tftp_request",
    packet_name: "tftp_datagram",
    protocol: Some(ProtocolId::Tftp),
    transport: Protocol::Udp,
    l4_ports: (2070, 69),
    opening: &[],
    request: |_| READ_REQUEST.to_vec(),
    verdict: Verdict::Pass,
    answer: |_, _| b"\0\x05\0\x01File not found\0".to_vec(),
    is_right: |_, heard| heard == READ_REQUEST,
};

/// An Outgoing-Call-Request (RFC 2637 section 2.7), and its refusal.
pub const PPTP: Dialogue = Dialogue {
    message_name: "pptp_call",
    packet_name: "pptp_segment",
    protocol: Some(ProtocolId::Pptp),
    transport: Protocol::Tcp,
    l4_ports: (40_000, 1723),
    opening: &[
        (Direction::Original, || control(1, 156, [0x0100, 0, 0])),
        (Direction::Reply, || control(2, 156, [0x0100, 0x0100, 0])),
    ],
    request: |_| control(7, 168, [CALL_ID, 1, 0]),
    verdict: Verdict::Rewrite,
    answer: |_, heard| {
        // Result code 2 is a general error.
        control(8, 32, [9, call_id(heard), 0x0200])
    },
    is_right: |_, heard| heard == control(7, 168, [call_id(heard), 1, 0]),
};

/// A segment on a port that nobody reads.
pub const PLAIN: Dialogue = Dialogue {
    message_name: "",
    packet_name: "plain_segment",
    protocol: None,
    l4_ports: (40_000, 8021),
    ..UNCHANGED
};

/// A command of FTP in which nothing changes.
pub const UNCHANGED: Dialogue = Dialogue {
    message_name: "alg_pass_line",
    packet_name: "alg_pass_segment",
    request: |_| b"NOOP\r\n".to_vec(),
    verdict: Verdict::Pass,
    answer: |_, _| b"200 NOOP ok.\r\n".to_vec(),
    is_right: |_, heard| heard == b"NOOP\r\n",
    ..FTP
};

fn invite(client: SocketAddrV4) -> Vec<u8> {
    let body = format!(
        "v=0\r\no=alice 2890844526 2890844526 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\n\
         m=audio 49172 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n",
        client.ip(),
    );
    let head = format!(
        "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {client};branch=z9hG4bK776asdhds;rport\r\n\
         Max-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@example.com>;tag=1928301774\r\n\
         To: <sip:bob@example.com>\r\nCall-ID: a84b4c76e66710\r\nCSeq: 314159 INVITE\r\n\
         Contact: <sip:alice@{client}>\r\nAllow: INVITE, ACK, CANCEL, OPTIONS, BYE, UPDATE\r\n\
         Supported: replaces, timer\r\nUser-Agent: phone\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n",
        body.len(),
    );
    (head + &body).into_bytes()
}

fn busy(seen: SocketAddrV4) -> Vec<u8> {
    format!(
        "SIP/2.0 486 Busy Here\r\nVia: SIP/2.0/UDP {seen};branch=z9hG4bK776asdhds;rport={}\r\n\
         From: \"Alice\" <sip:alice@example.com>;tag=1928301774\r\nTo: <sip:bob@example.com>;tag=a6c85cf\r\n\
         Call-ID: a84b4c76e66710\r\nCSeq: 314159 INVITE\r\nContent-Length: 0\r\n\r\n",
        seen.port(),
    )
    .into_bytes()
}

fn setup(lower: u16) -> String {
    format!(
        "SETUP rtsp://media.example.net/film/track1 RTSP/1.0\r\nCSeq: 3\r\nUser-Agent: player\r\n\
         Transport: RTP/AVP;unicast;client_port={lower}-{}\r\n\r\n",
        lower.wrapping_add(1),
    )
}

fn offer(address: Ipv4Addr, l4_port: u16) -> String {
    format!("PRIVMSG bob :\x01DCC SEND holiday.jpg {} {l4_port} 123456\x01\r\n", u32::from(address))
}

/// A control message of `size` bytes: its header, three fields, zeros.
fn control(control_type: u16, size: u16, fields: [u16; 3]) -> Vec<u8> {
    let head = [size, 1, 0x1A2B, 0x3C4D, control_type, 0];
    let mut bytes: Vec<u8> = head.iter().chain(&fields).flat_map(|word| word.to_be_bytes()).collect();
    bytes.resize(usize::from(size), 0);
    bytes
}

fn call_id(message: &[u8]) -> u16 {
    message.get(12..14).and_then(|id| id.try_into().ok()).map_or(0, u16::from_be_bytes)
}

const CALL_ID: u16 = 7;
const READ_REQUEST: &[u8] = b"\0\x01pxelinux.0\0octet\0tsize\x000\0blksize\x001408\0";
