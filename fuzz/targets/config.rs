//! A configuration file of any text: errors with places, no panic; and what was read is printed and read back the same.
#![no_main]

use algate_config::{Config, Machine};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(config) = Config::parse(text, "fuzz.toml", &Machine::unchecked()) {
        let printed = config.to_toml();
        let again = Config::parse(&printed, "printed.toml", &Machine::unchecked());
        assert!(again.is_ok_and(|again| again.to_toml() == printed), "{printed}");
    }
});
