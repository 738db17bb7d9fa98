#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| reaped_fuzz::lines(data));
