//! Lines that cannot be read, refused by policy.

use super::*;
use crate::contract::Ruling;
use crate::testing::FakePolicy;

#[test]
fn a_line_over_the_limit_is_judged_by_its_head_and_goes_with_its_rest() {
    let mut driver = welcomed(internal_client());
    driver.policy = FakePolicy(|subject| match subject.command {
        b"TOPIC" => Ruling::Deny,
        b"KICK" => Ruling::Drop,
        _ => Ruling::Allow,
    });
    for command in ["TOPIC #a", "KICK #a", "NAMES"] {
        driver.feed(C, command.as_bytes());
        driver.feed(C, &[b' '; 5000]);
        driver.feed(C, b"x\r\n");
    }
    let names = format!("NAMES{}x\\r\\n", " ".repeat(5000));
    assert_eq!(after_registration(&driver, C), names);
    assert_eq!(after_registration(&driver, S), ":algate NOTICE * :TOPIC refused by policy\\r\\n");
    assert_eq!(counted(&driver), [(Event::LineTooLong, 3), (Event::Removed, 2), (Event::Denied, 2)]);
}

#[test]
fn a_servers_line_over_the_limit_is_taken_out_where_policy_wants_no_unreadable_one() {
    let mut driver = welcomed(internal_client());
    driver.unreadable = |subject| if subject.direction == S { Ruling::Drop } else { Ruling::Allow };
    driver.feed(S, b":bob!b@h PRIVMSG al :");
    driver.feed(S, &[b'y'; 6000]);
    driver.policy = FakePolicy(|_| Ruling::Deny);
    driver.feed(C, b"JOIN #a\r\n");
    driver.feed(S, b"\r\n:bob!b@h PRIVMSG al :b\r\n");
    // The line is not there, so the notice stands in the middle of none.
    let want = ":algate NOTICE * :JOIN refused by policy\\r\\n:bob!b@h PRIVMSG al :b\\r\\n";
    assert_eq!(after_registration(&driver, S), want);
}

#[test]
fn a_malformed_offer_is_refused_where_policy_wants_none() {
    let rows: [(&[u8], bool); 5] = [
        (b"PRIVMSG bob :\x01DCC SEND a 167772162 66000\x01\r\n", true),
        (b"PRIVMSG bob :\x01DCC RESUME a x 1\x01\r\n", true),
        (b"PRIVMSG bob :\x01DCC ACCEPT a\x01\r\n", true),
        (b"PRIVMSG bob :\x01DCC CHAT chat ::1 5000\x01\r\n", false),
        (b"PRIVMSG bob :DCC SEND\r\n", false),
    ];
    for (line, is_refused) in rows {
        let mut driver = welcomed(internal_client());
        driver.unreadable = |_| Ruling::Deny;
        driver.feed(C, line);
        assert_eq!(after_registration(&driver, C).is_empty(), is_refused, "{}", line.escape_ascii());
        let told = after_registration(&driver, S);
        assert_eq!(told.contains("refused by policy"), is_refused, "{told}");
    }
    let mut driver = welcomed(internal_client());
    driver.unreadable = |_| Ruling::Drop;
    driver.feed(S, b":bob!b@h PRIVMSG al :\x01DCC RESUME a 66000 1\x01\r\n");
    assert_eq!(after_registration(&driver, S), "");
}
