//! `algate`: where packets come from and go to.
fn main() {}
