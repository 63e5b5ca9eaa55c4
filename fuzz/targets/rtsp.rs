//! RTSP with both ends hostile: see `algate_alg::testing`.
#![no_main]

use algate_alg::testing::fuzz_rtsp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz_rtsp(data));
