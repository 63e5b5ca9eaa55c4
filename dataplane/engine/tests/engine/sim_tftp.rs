//! TFTP through the engine: control sessions over UDP, the data session that is expected, and what is not.

use std::time::Duration;

use algate_engine::drop_reason::DropReason;

use crate::common::packets::{Seen, at, fragment, icmp, udp, udp_between, with_dont_fragment, with_ip_byte};
use crate::common::{INSIDE, Net, OUTSIDE};

const TFTP: &str = r#"
[alg.tftp]
enabled = true

[[nat.forward]]
protocol = "udp"
external = "203.0.113.11:69"
internal = "10.0.0.9:69"
"#;

const CLIENT: &str = "10.0.0.2:2070";
const SERVER: &str = "198.51.100.1:69";
const ANSWERING: &str = "198.51.100.1:40001";
const RRQ: &[u8] = b"\0\x01pxelinux.0\0octet\0tsize\x000\0blksize\x001408\0";
const WRQ: &[u8] = b"\0\x02backup.cfg\0octet\0";
const DATA: &[u8] = b"\0\x03\0\x01some bytes";
const ACK: &[u8] = b"\0\x04\0\0";
const ERROR: &[u8] = b"\0\x05\0\x01File not found\0";

/// A site whose mappings and filtering depend on address and port: nothing but an expectation lets an answer in.
fn strict() -> Net {
    Net::with(TFTP, |config| {
        for rule in &mut config.nat.rules {
            rule.mapping = algate_config::MappingBehavior::AddressAndPortDependent;
            rule.filtering = algate_config::FilteringBehavior::AddressAndPortDependent;
        }
    })
}

fn counter(net: &Net, name: &str) -> u64 {
    let rows = net.engine.counter_rows();
    rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("{name}")).value
}

fn expected(net: &Net) -> usize {
    net.engine.expectation_rows(net.now, 99).len()
}

/// A request goes out, the server answers from another port, and the transfer runs.
#[track_caller]
fn transfer(net: &mut Net, request: &[u8]) {
    let out = net.one(INSIDE, &udp(CLIENT, SERVER, request));
    assert_eq!((out.destination, out.payload.as_slice(), out.ttl), (at(SERVER), request, 63));
    assert_eq!(expected(net), 1);
    let first = net.one(OUTSIDE, &udp_between(at(ANSWERING), out.source, DATA));
    assert_eq!((first.source, first.destination), (at(ANSWERING), at(CLIENT)));
    assert_eq!(expected(net), 0, "one use");
    let ack = net.one(INSIDE, &udp(CLIENT, ANSWERING, ACK));
    assert_eq!((ack.source, ack.destination), (out.source, at(ANSWERING)), "from the port it has announced");
    net.one(OUTSIDE, &udp_between(at(ANSWERING), out.source, DATA));
}

#[test]
fn a_04_tftp_works_for_an_internal_client_whatever_the_filtering() {
    for (name, mut net) in [("by default", Net::with(TFTP, |_| {})), ("strict", strict())] {
        transfer(&mut net, RRQ);
        let rows = net.sessions();
        let control = rows.iter().find(|row| row.remote == at(SERVER)).unwrap();
        let data = rows.iter().find(|row| row.remote == at(ANSWERING)).unwrap();
        assert!(control.is_alg && control.children == 1 && data.is_child && !data.is_alg, "{name} {rows:?}");
        assert_eq!(net.workers[0].alg_flows(), 1);
        assert_eq!((counter(&net, "alg.tftp.flows"), counter(&net, "alg.tftp.expectations")), (1, 1));
        assert_eq!((counter(&net, "alg.tftp.messages"), counter(&net, "alg.ftp.flows")), (1, 0));
    }
}

#[test]
fn a_04_tftp_works_with_port_blocks_and_for_writing() {
    let mut net = Net::with(TFTP, |config| {
        config.nat.pools[0].blocks = Some(algate_config::PortBlocks {
            ports: 512,
            per_host: 1,
            idle_hold: Duration::from_secs(1),
            assignment: algate_config::Assignment::Dynamic,
        });
    });
    transfer(&mut net, WRQ);
}

#[test]
fn a_04_an_internal_server_answers_from_a_port_of_its_own() {
    let (client, forward) = ("203.0.113.50:3000", "203.0.113.11:69");
    let mut net = Net::with(TFTP, |_| {});
    let asked = net.one(OUTSIDE, &udp(client, forward, RRQ));
    assert_eq!(asked.destination, at("10.0.0.9:69"));
    assert_eq!(expected(&net), 1);
    let data = net.one(INSIDE, &udp("10.0.0.9:50123", client, DATA));
    assert_eq!((*data.source.ip(), data.destination), (*at(forward).ip(), at(client)));
    let ack = net.one(OUTSIDE, &udp_between(at(client), data.source, ACK));
    assert_eq!(ack.destination, at("10.0.0.9:50123"));
    assert_eq!(expected(&net), 0);
    assert!(net.sessions().iter().any(|row| row.is_child));
}

#[test]
fn only_the_server_may_answer_and_only_in_time() {
    let mut net = strict();
    let out = net.one(INSIDE, &udp(CLIENT, SERVER, RRQ));
    let stranger = udp_between(at("198.51.100.2:40001"), out.source, DATA);
    net.refused(OUTSIDE, &stranger, DropReason::ExpectationPeer);
    net.advance(Duration::from_secs(61));
    assert_eq!(expected(&net), 0);
    net.refused(OUTSIDE, &udp_between(at(ANSWERING), out.source, DATA), DropReason::NoMapping);
    // The client asks again: the same session, a new expectation.
    net.one(INSIDE, &udp(CLIENT, SERVER, RRQ));
    net.one(OUTSIDE, &udp_between(at(ANSWERING), out.source, DATA));
    assert_eq!(net.workers[0].alg_flows(), 1);
}

#[test]
fn an_expectation_takes_nothing_from_a_mapping_that_is_open_to_all() {
    let mut net = Net::with(TFTP, |_| {});
    let out = net.one(INSIDE, &udp(CLIENT, SERVER, RRQ));
    net.one(OUTSIDE, &udp_between(at("198.51.100.2:40001"), out.source, DATA));
    assert_eq!(expected(&net), 1, "it was not for that one");
}

#[test]
fn two_servers_are_asked_from_one_port() {
    let mut net = strict();
    let mut sources = Vec::new();
    for server in ["198.51.100.1", "198.51.100.2"] {
        let out = net.one(INSIDE, &udp(CLIENT, &format!("{server}:69"), RRQ));
        sources.push((server, out.source));
    }
    assert_eq!(expected(&net), 2);
    for (server, external) in sources {
        let data = net.one(OUTSIDE, &udp_between(at(&format!("{server}:5000")), external, DATA));
        assert_eq!(data.destination, at(CLIENT));
    }
    // With one mapping for both, too.
    let mut net = Net::with(TFTP, |_| {});
    for server in ["198.51.100.1:69", "198.51.100.2:69"] {
        net.one(INSIDE, &udp(CLIENT, server, RRQ));
    }
    assert_eq!(expected(&net), 2);
}

#[test]
fn an_error_of_the_server_withdraws_and_the_sessions_end_leaves_nothing() {
    let mut net = strict();
    let out = net.one(INSIDE, &udp(CLIENT, SERVER, RRQ));
    net.one(OUTSIDE, &udp_between(at(SERVER), out.source, ERROR));
    assert_eq!(expected(&net), 0);
    net.one(INSIDE, &udp(CLIENT, SERVER, RRQ));
    assert_eq!(expected(&net), 1);
    let mut net = Net::with(TFTP, |config| config.timeouts.udp = Duration::from_secs(10));
    net.one(INSIDE, &udp(CLIENT, SERVER, RRQ));
    net.advance(Duration::from_secs(12));
    assert_eq!((net.sessions().len(), expected(&net), net.workers[0].alg_flows()), (0, 0, 0));
}

#[test]
fn what_is_no_tftp_leaves_the_stage_for_good() {
    let mut net = strict();
    net.one(INSIDE, &udp(CLIENT, SERVER, b"\x80\x01not a request"));
    assert_eq!((net.workers[0].alg_flows(), counter(&net, "alg.tftp.detached")), (0, 1));
    net.one(INSIDE, &udp(CLIENT, SERVER, RRQ));
    assert_eq!((expected(&net), counter(&net, "alg.tftp.messages")), (0, 1));
}

#[test]
fn a_damaged_datagram_stays_damaged_and_opens_nothing() {
    let mut net = strict();
    let mut damaged = udp(CLIENT, SERVER, RRQ);
    damaged[50] ^= 1;
    net.verifies = false;
    assert_ne!(net.one(INSIDE, &damaged).l4_sum(), 0xffff, "its receiver finds the damage");
    net.verifies = true;
    assert_eq!((expected(&net), counter(&net, "alg.tftp.messages")), (0, 0));
    // Without a checksum there is nothing to verify (RFC 768).
    let mut bare = udp(CLIENT, SERVER, RRQ);
    bare[40..42].fill(0);
    let out = net.one(INSIDE, &bare);
    assert_eq!((&out.packet[26..28], expected(&net)), (&[0, 0][..], 1));
}

#[test]
fn a_datagram_with_ip_options_passes_and_opens_nothing() {
    let mut net = strict();
    let plain = udp(CLIENT, SERVER, RRQ);
    let mut frame = plain[..34].to_vec();
    frame.extend([1, 1, 1, 0]);
    frame.extend(&plain[34..]);
    let length = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    let out = net.one(INSIDE, &with_ip_byte(frame, 0, 0x46));
    assert_eq!((out.payload.as_slice(), expected(&net)), (RRQ, 0));
}

#[test]
fn a_request_in_fragments_is_read_whole_and_overlapping_ones_die() {
    let mut net = strict();
    let whole = udp(CLIENT, SERVER, RRQ);
    let out = net.send_all(INSIDE, &[fragment(&whole, 0, 24, 7), fragment(&whole, 24, usize::MAX, 7)]);
    assert_eq!((out.len(), out[0].payload.as_slice(), expected(&net)), (1, RRQ, 1));

    let mut net = strict();
    let out = net.send_all(INSIDE, &[fragment(&whole, 0, 24, 8), fragment(&whole, 16, usize::MAX, 8)]);
    assert_eq!((out.len(), expected(&net)), (0, 0));
    assert!(net.dropped(DropReason::FragmentOverlap) > 0, "{:?}", net.drops());
}

#[test]
fn an_icmp_error_about_a_request_reaches_the_client() {
    let mut net = strict();
    let out = net.one(INSIDE, &udp(CLIENT, SERVER, RRQ));
    let host = out.source.ip().to_string();
    let back = net.one(OUTSIDE, &icmp("198.51.100.1", &host, (3, 3), [0; 4], &out.packet));
    let inner: Seen = back.embedded();
    assert_eq!((inner.source, inner.destination), (at(CLIENT), at(SERVER)));
    assert_eq!(inner.payload, RRQ, "what it embeds is untouched");
}

#[test]
fn an_alg_core_owns_the_session_whoever_receives_it() {
    let mut net = Net::with(TFTP, |config| config.workers.alg_cores = vec![2]);
    let out = net.one(INSIDE, &udp(CLIENT, SERVER, RRQ));
    assert_eq!((net.workers[0].alg_flows(), net.workers[1].alg_flows()), (0, 1));
    net.one(OUTSIDE, &udp_between(at(SERVER), out.source, ERROR));
    assert_eq!((net.total(|counters| &counters.handed_over), expected(&net)), (2, 0));
}

#[test]
fn a_full_stage_drops_requests_of_new_sessions_only() {
    let mut net = Net::with(TFTP, |config| config.tables.alg_flows = 1);
    net.one(INSIDE, &udp(CLIENT, SERVER, RRQ));
    net.refused(INSIDE, &udp("10.0.0.3:2070", SERVER, RRQ), DropReason::AlgStageFull);
    net.one(INSIDE, &udp("10.0.0.3:2070", "198.51.100.1:53", b"query"));
    net.one(INSIDE, &with_dont_fragment(udp(CLIENT, SERVER, RRQ)));
}
