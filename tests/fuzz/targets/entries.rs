//! No bytes in a journal row make the reader of entries and images panic, or run for ever.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgcanon::journal::{Entries, Images};

fuzz_target!(|data: &[u8]| {
    for entry in Entries::new(None, data.to_vec().into()) {
        let Ok(entry) = entry else { break };
        let _ = entry.images().flatten().count();
    }
    let _ = Images::new(data).flatten().count();
});
