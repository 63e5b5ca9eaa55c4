//! The bench of the whole program: devices under test in turn, what is measured of them, and what it says.
//!
//! [`device`] starts and stops devices, [`work`] says what is measured, [`session`] measures it round by round,
//! [`goals`] compares with what is to be reached, [`report`] and [`plot`] write it down. [`scaling`] measures two
//! workers in process, for machines that have no core left for a generator.

pub mod device;
pub mod goals;
pub mod plot;
pub mod report;
pub mod scaling;
pub mod session;
pub mod work;
