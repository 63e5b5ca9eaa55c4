//! Media of a call that is put on hold and taken up again: whatever the messages of either end say meanwhile, no packet of a
//! session that stands is lost, and each leaves from the port announced last.

use std::net::SocketAddrV4;

use crate::common::Net;
use crate::sim_sip::{FAR, Line, PHONE, PROXY, SIP, SITES, answer, audio, media_of, request};
use crate::sim_sip_early::FILTERS;

const MEDIA: &str = "10.0.0.2:4000";

/// What an end says of its media that wants to be silent.
type Hold = fn(&str) -> String;

const HOLDS: [(&str, Hold); 4] = [
    ("sendonly", |media| audio(media).replace("sendrecv", "sendonly")),
    ("inactive", |media| audio(media).replace("sendrecv", "inactive")),
    ("no address", |media| audio(&format!("0.0.0.0:{}", media.split_once(':').unwrap().1))),
    ("no port", |media| audio(&format!("{}:0", media.split_once(':').unwrap().0))),
];

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Phone,
    Far,
}

/// A message of a call that is under way, the `number`th request of it, from the callee if `turned`.
fn within(text: &str, number: u32, turned: bool) -> String {
    let named = text
        .replace("To: <sip:bob@example.com>\r\n", "To: <sip:bob@example.com>;tag=to\r\n")
        .replace("CSeq: 1 ", &format!("CSeq: {number} "));
    match turned {
        true => named
            .replace("<sip:carol@example.com>;tag=from", "<sip:CAROL>")
            .replace("<sip:bob@example.com>;tag=to", "<sip:carol@example.com>;tag=from")
            .replace("<sip:CAROL>", "<sip:bob@example.com>;tag=to"),
        false => named,
    }
}

/// A call that the phone has begun, while both speak.
struct Call {
    line: Line,
    announced: SocketAddrV4,
    requests: u32,
}

impl Call {
    fn begin(mut line: Line) -> Self {
        let seen = line.seen.to_string();
        let asked = line.says(&request("INVITE", "held", (PHONE, "example.com"), &audio(MEDIA)));
        line.hears(&answer("200 OK", "held", (&seen, PROXY), &audio(FAR)));
        line.says(&request("ACK", "held", (PHONE, PROXY), ""));
        let mut call = Self { line, announced: media_of(&asked), requests: 1 };
        call.talk();
        call
    }

    #[track_caller]
    fn talk(&mut self) {
        self.line.talks(MEDIA, FAR, self.announced);
    }

    /// An end describes its media anew, the other one answers with `status`; media flow all the time.
    #[track_caller]
    fn offer(&mut self, end: End, offer: &str, status: &str, reply: &str) {
        self.requests += 1;
        let (number, turned, seen) = (self.requests, end == End::Far, self.line.seen.to_string());
        let send = |line: &mut Line, by: End, text: &str| match by {
            End::Phone => line.says(&within(text, number, turned)),
            End::Far => line.hears(&within(text, number, turned)),
        };
        let (other, via, to) = match end {
            End::Phone => (End::Far, PHONE, "example.com"),
            End::Far => (End::Phone, PROXY, &seen[..]),
        };
        let asked = send(&mut self.line, end, &request("INVITE", "held", (via, to), offer));
        self.talk();
        let (came_from, contact) = if other == End::Far { (&seen[..], PROXY) } else { (PROXY, PHONE) };
        send(&mut self.line, other, &answer("100 Trying", "held", (came_from, contact), ""));
        let told = send(&mut self.line, other, &answer(status, "held", (came_from, contact), reply));
        let of_phone = if end == End::Phone { &asked } else { &told };
        if status.starts_with("200") && of_phone.contains("m=audio") && !of_phone.contains("m=audio 0 ") {
            let now = media_of(of_phone);
            self.announced = if now.ip().is_unspecified() { self.announced } else { now };
        }
        self.talk();
        send(&mut self.line, end, &request("ACK", "held", (via, to), ""));
        self.talk();
    }

    fn end(mut self) -> Line {
        self.line.says(&within(&request("BYE", "held", (PHONE, PROXY), ""), self.requests + 1, false));
        self.line
    }
}

/// Runs `scene` in a call of its own at each site and filter, for each way to ask for silence and each end that does. After the call
/// only the registration is left.
#[track_caller]
fn in_every_case(scene: impl Fn(&mut Call, End, Hold)) {
    for (name, change) in SITES.into_iter().chain(FILTERS) {
        for (how, hold) in HOLDS {
            for end in [End::Phone, End::Far] {
                eprintln!("{name}, {how}, {end:?}");
                let mut call = Call::begin(Line::registered(Net::with(SIP, change), PHONE, 3_600));
                scene(&mut call, end, hold);
                assert_eq!(call.end().expected(), 1, "the registration stays");
            }
        }
    }
}

#[test]
fn a_04_media_flow_while_a_call_is_held_and_taken_up_again_by_either_end() {
    in_every_case(|call, end, hold| {
        let [own, others] = if end == End::Phone { [MEDIA, FAR] } else { [FAR, MEDIA] };
        for _ in 0..2 {
            call.offer(end, &hold(own), "200 OK", &audio(others).replace("sendrecv", "recvonly"));
            call.offer(end, &audio(own), "200 OK", &audio(others));
        }
    });
}

#[test]
fn a_04_media_flow_although_a_hold_is_refused() {
    in_every_case(|call, end, hold| {
        let own = if end == End::Phone { MEDIA } else { FAR };
        call.offer(end, &hold(own), "488 Not Acceptable Here", "");
    });
}
