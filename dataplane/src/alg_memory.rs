//! `algate show alg memory`: what the ALG stages of all threads took at start.

use algate_config::Config;
use algate_engine::alg_stage::footprint::Footprint;

use crate::report::AlgMemoryRow;

/// The rows: what one of each costs, how many there can be, and what that is together.
#[must_use]
pub fn rows(config: &Config) -> Vec<AlgMemoryRow> {
    let of = Footprint::of(config);
    // Each worker has a stage, too, where ALG cores own the sessions.
    let threads = config.workers.cores.len() + config.workers.alg_cores.len();
    let row = |what: &str, bytes, room, total: Option<usize>| AlgMemoryRow {
        what: what.to_owned(),
        bytes,
        room,
        threads,
        total_bytes: total.map(|total| total * threads),
    };
    let [flows, busy_flows] = [of.flows * of.idle_flow, of.busy_flows * of.busy_flow];
    let mut rows = vec![
        row("session over UDP", of.datagram_flow, of.flows, None),
        row("session over TCP", of.idle_flow, of.flows, Some(flows)),
        row("buffers of a session over TCP", of.busy_flow, of.busy_flows, Some(busy_flows)),
    ];
    if let Some(bytes) = of.calls_bytes.checked_div(of.calls) {
        rows.push(row("SIP call", bytes, of.calls, Some(of.calls_bytes)));
    }
    rows.push(row("all of a thread", of.total(), 1, Some(of.total())));
    rows
}

#[cfg(test)]
mod tests {
    use algate_config::Machine;

    use super::*;

    #[test]
    fn the_rows_add_up_whether_sip_is_on_or_not() {
        for (has_sip, names) in [
            (false, &["session over UDP", "session over TCP", "buffers of a session over TCP"][..]),
            (true, &["session over UDP", "session over TCP", "buffers of a session over TCP", "SIP call"]),
        ] {
            let text = format!(
                "nic_port = [{{ name = \"n\", device = {{ driver = \"null\" }} }}]\n[[interface]]\nname = \"lan\"\n\
                 nic_port = \"n\"\nside = \"internal\"\naddresses = [\"10.0.0.1/24\"]\n\
                 [workers]\ncores = [1, 2]\nalg_cores = [3]\n[alg.sip]\nenabled = {has_sip}\n"
            );
            let config = Config::parse(&text, "t", &Machine::unchecked()).unwrap();
            let mut rows = rows(&config);
            let all = rows.pop().unwrap();
            assert_eq!(all.total_bytes, Some(3 * Footprint::of(&config).total()));
            assert_eq!(all.total_bytes, Some(rows.iter().filter_map(|row| row.total_bytes).sum()));
            assert_eq!(rows.iter().map(|row| row.what.as_str()).collect::<Vec<_>>(), names);
            assert!(rows.iter().all(|row| row.bytes > 0 && row.room > 0 && row.threads == 3), "{rows:?}");
        }
    }
}
