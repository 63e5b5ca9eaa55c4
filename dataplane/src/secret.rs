//! Random bytes that nobody outside may guess: hash keys, the engine's seed.

use std::fs::File;
use std::io::Read;

use crate::setup_error::SetupError;

/// Fills `bytes` from the kernel's generator.
///
/// # Errors
/// When `/dev/urandom` cannot be read.
pub fn fill(bytes: &mut [u8]) -> Result<(), SetupError> {
    let read = File::open("/dev/urandom").and_then(|mut urandom| urandom.read_exact(bytes));
    read.map_err(|error| SetupError::new(format!("/dev/urandom cannot be read ({error}): mount /dev")))
}

/// Four random numbers.
///
/// # Errors
/// When `/dev/urandom` cannot be read.
pub fn seed() -> Result<[u64; 4], SetupError> {
    let mut words = [0; 4];
    for word in &mut words {
        let mut bytes = [0; 8];
        fill(&mut bytes)?;
        *word = u64::from_ne_bytes(bytes);
    }
    Ok(words)
}
