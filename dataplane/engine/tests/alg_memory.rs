//! What the ALG stage says of its memory is what it takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use algate_config::{Config, Machine};
use algate_engine::alg_stage::AlgStage;
use algate_engine::alg_stage::footprint::Footprint;
use algate_engine::alg_stage::nat_port::Promises;

struct Counting;

thread_local! {
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is the system allocator's, with the caller's own arguments; the counter is a plain
// thread-local without destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.set(BYTES.get().wrapping_add(layout.size()));
        // SAFETY: the caller's own contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // What another thread has taken may be given back here.
        BYTES.set(BYTES.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's own contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn config(flows: usize, has_sip: bool) -> Config {
    let text = format!(
        "nic_port = [{{ name = \"n\", device = {{ driver = \"null\" }} }}]\n[[interface]]\nname = \"lan\"\n\
         nic_port = \"n\"\nside = \"internal\"\naddresses = [\"10.0.0.1/24\"]\n[alg.ftp]\nenabled = true\n\
         [alg.pptp]\nenabled = true\nexpectations = 64\n[alg.sip]\nenabled = {has_sip}\n\
         [tables]\nalg_flows = {flows}\n"
    );
    Config::parse(&text, "t", &Machine::unchecked()).unwrap()
}

/// Bytes that a stage takes at its start.
fn taken(flows: usize, has_sip: bool) -> usize {
    let config = config(flows, has_sip);
    let before = BYTES.get();
    let stage = AlgStage::new(&config);
    let taken = BYTES.get().wrapping_sub(before);
    drop(stage);
    assert_eq!(BYTES.get(), before, "all of it comes back");
    taken
}

#[test]
fn a_stage_takes_what_its_footprint_says() {
    let (small, large) = (1_024, 4_096);
    for has_sip in [false, true] {
        let [less, more] = [small, large].map(|flows| Footprint::of(&config(flows, has_sip)).total());
        let measured = taken(large, has_sip) - taken(small, has_sip);
        let said = more - less;
        assert!(measured.abs_diff(said) < said / 50, "{has_sip}: measured {measured}, said {said}");
        // What grows not with the flows: where messages are judged and changed.
        assert!(taken(small, has_sip) - less < 1_000_000, "{has_sip}");
    }
    let footprint = Footprint::of(&config(small, false));
    println!("{footprint:?}");
    // As `tables.alg_flows` tells the operator.
    let expectations = Promises::bytes(64);
    assert!(expectations <= 64 * 24);
    assert!(footprint.idle_flow - expectations <= 5_000, "{footprint:?}");
    assert!(footprint.busy_flow <= 82 * 1_024, "{footprint:?}");
    assert_eq!(footprint.busy_flows, small / 4);
}
