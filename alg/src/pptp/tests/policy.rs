//! Messages that cannot be read, refused by policy.

use super::*;
use crate::contract::Ruling;

#[test]
fn a_message_of_another_size_is_taken_out_where_policy_refuses_it() {
    let wrong = message(15, 26, &[500, 0]);
    let mut driver = started(internal_client());
    assert_eq!(pass(&mut driver, C, &wrong), wrong, "as it is, without a rule");
    driver.unreadable = |_| Ruling::Deny;
    assert_eq!(pass(&mut driver, C, &wrong), b"");
    assert_eq!(pass(&mut driver, S, &wrong), b"");
    assert_eq!(counted(&driver), [(Event::Malformed, 3), (Event::Removed, 2), (Event::Denied, 2)]);
}
