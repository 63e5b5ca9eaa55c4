//! What is announced behind NAT and cannot be opened: the client is told, the other end reads no internal address.

use super::*;
use crate::contract::{ExpectError, Ruling, Verdict};
use crate::testing::NatCall;

const NO_DATA: &str = "425 Can't open data connection.\r\n";
const NO_PORT: &str = "504 Cannot be opened.\r\n";

/// A session whose server has greeted, with this choice of the operator.
pub(super) fn greeted_with(unopened: Ruling, endpoints: SessionEndpoints) -> Driver<Ftp> {
    let settings = FtpSettings { unopened, ..FtpSettings::default() };
    let mut driver = Driver::new(Ftp::new(settings), endpoints);
    driver.feed(S, b"220 ready\r\n");
    driver
}

/// What the client has read behind the greeting.
fn read_by_client(driver: &Driver<Ftp>) -> String {
    String::from_utf8(driver.outcome().reply[11..].to_vec()).unwrap()
}

#[test]
fn s_02_an_internal_servers_endpoint_that_cannot_be_opened_is_no_data_connection() {
    let rows: [(&str, &str, Event); 9] = [
        ("227 (10,0,0,9,0,0)\r\n", NO_DATA, Event::PortZero),
        ("227 (10,0,0,9,0,22)\r\n", NO_DATA, Event::PrivilegedPort),
        ("227 (10,0,0,9,8,1)\r\n", NO_DATA, Event::ExpectationRefused),
        ("227 (10,0,0,3,78,32)\r\n", NO_DATA, Event::ForeignAddress),
        ("229 (|||0|)\r\n", NO_DATA, Event::PortZero),
        ("229 (|||22|)\n", "425 Can't open data connection.\n", Event::PrivilegedPort),
        ("229 (|||2049|)\r\n", NO_DATA, Event::ExpectationRefused),
        (
            "227-(10,0,0,9,8,1)\r\n a\r\n227-b\r\n227 (10,0,0,9,8,1)\r\n",
            "425-Can't open data connection.\r\n a\r\n425-Can't open data connection.\r\n425 Can't open data connection.\r\n",
            Event::ExpectationRefused,
        ),
        // Its first line has gone, and a reply ends with the code that it began with.
        (
            "227-a\r\n227 (10,0,0,9,8,1)\r\n",
            "227-a\r\n227 Can't open data connection.\r\n",
            Event::ExpectationRefused,
        ),
    ];
    for (reply, want, event) in rows {
        let asked: &[u8] = if reply.starts_with("227") { b"PASV\r\n" } else { b"EPSV\r\n" };
        let mut driver = greeted(internal_server());
        driver.nat.refusal = Some(ExpectError::ServicePort);
        driver.feed(C, asked);
        // However it comes.
        reply.as_bytes().iter().for_each(|byte| driver.feed(S, &[*byte]));
        assert_eq!(read_by_client(&driver), want, "{reply}");
        assert_eq!(counted(&driver), [(event, 1), (Event::Denied, 1)], "{reply}");
        assert_eq!(driver.nat.open_targets(), []);
        // The dialogue is where it was.
        driver.nat.refusal = None;
        driver.feed(C, b"PASV\r\n");
        driver.feed(S, b"227 (10,0,0,9,15,161)\r\n");
        assert_eq!(driver.nat.open_targets(), [at("10.0.0.9:4001")], "{reply}");
    }
}

#[test]
fn s_01_an_internal_clients_endpoint_that_cannot_be_opened_is_answered_in_its_turn() {
    let rows: [(&[u8], Option<ExpectError>, Event); 6] = [
        (b"PORT 10,0,0,2,8,1\r\n", Some(ExpectError::ServicePort), Event::ExpectationRefused),
        (b"EPRT |1|10.0.0.2|4001|\r\n", Some(ExpectError::SessionBudget), Event::ExpectationRefused),
        (b"PORT 10,0,0,2,15,161\n", Some(ExpectError::TableFull), Event::ExpectationRefused),
        (b"PORT 10,0,0,2,0,22\r\n", None, Event::PrivilegedPort),
        (b"PORT 10,0,0,3,15,161\r\n", None, Event::ForeignAddress),
        (b"EPRT |1|100.64.0.3|4001|\r\n", None, Event::ForeignAddress),
    ];
    for (line, refusal, event) in rows {
        let name = line.escape_ascii().to_string();
        let mut driver = greeted(internal_client());
        driver.nat.refusal = refusal;
        driver.feed(C, &[b"NOOP\r\n", line, b"LIST\r\n"].concat());
        assert_eq!(driver.outcome().original, b"NOOP\r\nLIST\r\n", "{name}");
        assert_eq!(read_by_client(&driver), "", "{name}: before its turn");
        driver.feed(S, b"200-a\r\n");
        driver.feed(S, b"200 b\r\n425 none\r\n");
        assert_eq!(read_by_client(&driver), format!("200-a\r\n200 b\r\n{NO_PORT}425 none\r\n"), "{name}");
        let want = [(event, 1), (Event::Removed, 1), (Event::Denied, 1)];
        assert!(want.iter().all(|(event, count)| driver.count_of(*event) == *count), "{name}");
        assert_eq!(counted(&driver).len(), 3, "{name}");
        driver.nat.refusal = None;
        driver.feed(C, b"PORT 10,0,0,2,15,161\r\n");
        driver.feed(S, b"200 ok\r\n");
        assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:4001")], "{name}");
    }
}

#[test]
fn s_01_s_02_the_operator_chooses_what_becomes_of_what_cannot_be_opened() {
    let (port, passive) = (&b"PORT 10,0,0,2,8,1\r\n"[..], &b"227 (10,0,0,9,8,1)\r\n"[..]);
    let rows = [
        (Ruling::Deny, &b""[..], NO_PORT, Verdict::Rewrite, NO_DATA),
        (Ruling::Allow, port, "", Verdict::Pass, "227 (10,0,0,9,8,1)\r\n"),
        (Ruling::Drop, b"", "", Verdict::Terminate, ""),
    ];
    for (ruling, at_server, at_client, verdict, read) in rows {
        let mut client = greeted_with(ruling, internal_client());
        client.nat.refusal = Some(ExpectError::ServicePort);
        client.feed(C, port);
        assert_eq!(
            (client.outcome().original, read_by_client(&client).as_str()),
            (at_server.to_vec(), at_client)
        );
        assert_eq!(client.count_of(Event::Denied), u64::from(ruling != Ruling::Allow));

        let mut server = greeted_with(ruling, internal_server());
        server.nat.refusal = Some(ExpectError::ServicePort);
        server.feed(C, b"PASV\r\n");
        server.feed(S, passive);
        assert_eq!(server.outcome().decided.pop().unwrap().verdict, verdict, "{ruling:?}");
        if verdict != Verdict::Terminate {
            assert_eq!(read_by_client(&server), read);
        }
        assert_eq!(server.count_of(Event::Denied), u64::from(ruling != Ruling::Allow));
    }
}

/// Nothing is told there that is not true, or that the reader does not know.
#[test]
fn what_names_no_internal_host_passes_though_it_cannot_be_opened() {
    let untranslated = SessionEndpoints { originator_seen: at("10.0.0.2:40000"), ..internal_client() };
    let twice = SessionEndpoints { originator_seen: at("100.64.0.7:50000"), ..internal_client() };
    let rows: [(&str, SessionEndpoints, &[u8]); 5] = [
        ("a third party", internal_client(), b"PORT 203,0,113,77,15,161\r\n"),
        ("its external address", internal_client(), b"PORT 198,51,100,240,8,1\r\n"),
        ("its external address, which is private, too", twice, b"PORT 100,64,0,7,8,1\r\n"),
        ("not translated", untranslated, b"PORT 10,0,0,2,8,1\r\n"),
        ("not translated, another's", untranslated, b"PORT 10,0,0,3,8,1\r\n"),
    ];
    for (name, endpoints, line) in rows {
        let mut driver = greeted(endpoints);
        driver.nat.refusal = Some(ExpectError::ServicePort);
        driver.feed(C, line);
        assert_eq!(driver.outcome().original, line, "{name}");
    }
    let mut driver = greeted(internal_client());
    driver.feed(C, b"PASV\r\n");
    driver.feed(S, b"227 (203,0,113,9,0,22)\r\n");
    assert_eq!(read_by_client(&driver), "227 (203,0,113,9,0,22)\r\n", "the server is not translated");
}

/// The server is in passive mode then, whatever the client has read: what was open before is of no use.
#[test]
fn a_refused_endpoint_closes_the_one_before_and_counts_nothing_twice() {
    let mut driver = greeted(internal_server());
    for round in 0..40 {
        driver.nat.refusal = (round % 2 == 1).then_some(ExpectError::SessionBudget);
        driver.feed(C, b"PASV\r\n");
        driver.feed(S, b"227-(10,0,0,9,78,32)\r\n227 (10,0,0,9,78,32)\r\n");
        assert_eq!(driver.nat.open_targets().len(), 1 - round % 2);
    }
    let withdrawn = |call: &&NatCall| matches!(call, NatCall::Withdraw(_));
    assert_eq!(driver.nat.calls.iter().filter(withdrawn).count(), 20, "each of those opened, once");
    let want = [(Event::Rewritten, 40), (Event::ExpectationRefused, 20), (Event::Denied, 20)];
    assert_eq!(counted(&driver), want);
}
