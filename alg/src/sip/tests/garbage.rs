//! Messages that were damaged, and generated ones whose rewriting is known beforehand.

use proptest::prelude::*;

use super::*;
use crate::testing::fuzz_sip;

/// Dialogues in the form [`fuzz_sip`] reads.
fn turns(choice: u8) -> Vec<u8> {
    let mut data = vec![choice];
    let multipart = String::from_utf8(invite("g", "", "")).unwrap();
    let multipart = multipart.replace("application/sdp", "multipart/mixed;boundary=b");
    let body = format!(
        "--b\r\nContent-Type: application/sdp\r\n\r\n{}\r\n--b--\r\n",
        lines(&audio("10.0.0.2", 4000))
    );
    let multipart =
        multipart.replace("Content-Length: 0", &format!("Content-Length: {}", body.len())) + &body;
    let messages = [
        (0, invite("g", "", &audio("10.0.0.2", 4000))),
        (0x80, response("183 Progress", "g", "1 INVITE", "b1", &audio("203.0.113.77", 7000))),
        (0x80, response("200 OK", "g", "1 INVITE", "b1", &audio("203.0.113.77", 7000))),
        (0, in_dialog("ACK", "g", "b1")),
        (0, multipart.into_bytes()),
        (
            0x80,
            invite("h", "Route: <sip:10.0.0.2;lr>, <sip:198.51.100.7:30000>\n", &audio("203.0.113.9", 9000)),
        ),
        (0, response("200 OK", "h", "1 INVITE", "b2", &audio("10.0.0.2", 4010))),
        (0, invite("i", "Replaces: g@10.0.0.2;to-tag=1\n", &audio("10.0.0.3", 4020))),
        (0x80, response("200 OK", "i", "1 INVITE", "b1", &audio("198.51.100.7", 20_000))),
        (0, in_dialog("REGISTER", "r", "b1")),
        (0x80, response("200 OK", "r", "1 REGISTER", "b1", "")),
        (0, in_dialog("BYE", "g", "b1")),
    ];
    for (who, bytes) in messages {
        let [high, low] = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        data.extend_from_slice(&[high | who, low]);
        data.extend(bytes);
    }
    data
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn s_23_damaged_dialogues_of_either_side_never_panic_and_never_depend_on_their_cuts(
        choice in 0u8..32,
        damage in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(
            &b"\0\r\n \t\"\\<>,;:=/?@[]*09aZ\x16\x80\xff"[..]), 0u8..3), 0..8),
    ) {
        let mut data = turns(choice);
        for (at, byte, kind) in damage {
            let at = 1 + at.index(data.len() - 1);
            match kind {
                0 => data[at] = byte,
                1 => data.insert(at, byte),
                _ => { data.remove(at); }
            }
        }
        fuzz_sip(&data);
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz_sip(&data);
    }

    /// S-04: what leaves is what an independent writer of the same message would have written.
    #[test]
    fn s_04_a_rewritten_message_is_the_one_that_was_meant(
        names in prop::collection::vec("[a-z]{1,8}", 1..6),
        ports in prop::collection::vec((512u16..30_000).prop_map(|half| 2 * half), 1..5),
        folded: bool,
        compact: bool,
        foreign in 3u8..250,
    ) {
        let write = |host: &str, address: &str, media: &dyn Fn(usize) -> u16| {
            let separator = if folded { ",\r\n " } else { ", " };
            let contacts: Vec<_> = names.iter().map(|name| format!("<sip:{name}@{host}>;q=0.5")).collect();
            let mut body = format!("v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n");
            for index in 0..ports.len() {
                body += &format!("m=audio {} RTP/AVP 0\r\na=x:10.0.0.2\r\n", media(index));
            }
            body += &format!("m=video 5000 RTP/AVP 31\r\nc=IN IP4 10.0.0.{foreign}\r\n");
            let (via, contact, length) = if compact { ("v", "m", "l") } else { ("Via", "Contact", "Content-Length") };
            format!(
                "INVITE sip:b@example.com SIP/2.0\r\n{via}: SIP/2.0/UDP {host};branch=z\r\n\
                Record-Route: <sip:10.0.0.{foreign};lr>\r\nFrom: <sip:a@10.0.0.2>;tag=1\r\nTo: <sip:b@b>\r\n\
                Call-ID: p\r\nCSeq: 1 INVITE\r\n{contact}: {}\r\nc: application/sdp\r\n{length}: {}\r\n\r\n{body}",
                contacts.join(separator), body.len()
            )
        };
        // Sections with the same port share what was announced for it.
        let mut distinct: Vec<u16> = Vec::new();
        for port in &ports {
            if !distinct.contains(port) {
                distinct.push(*port);
            }
        }
        let announced = |index: usize| {
            let at = distinct.iter().position(|port| *port == ports[index]).unwrap();
            20_000 + 2 * u16::try_from(at).unwrap()
        };
        let mut driver = udp(phone());
        let sent = write("10.0.0.2:5060", "10.0.0.2", &|index| ports[index]);
        let got = through(&mut driver, O, sent.as_bytes());
        let want = write("198.51.100.7:30000", "198.51.100.7", &announced);
        prop_assert_eq!(got, want);
    }
}
