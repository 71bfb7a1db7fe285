//! Connection strings: no panic, and what was quoted comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgcanon::config::{ConnInfo, quote};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(info) = ConnInfo::parse(text) {
        let _ = info.check();
        let _ = (info.candidates(), info.port(), info.sslmode(), info.sslnegotiation());
        assert_eq!(info.overlay(&info), info, "on top of itself it is itself");
        assert_eq!(info.overlay(&ConnInfo::default()), info, "nothing on top changes nothing");
        assert_eq!(ConnInfo::default().overlay(&info), info, "on top of nothing it is itself");
    }
    let quoted = format!("port=1 application_name={} user=u", quote(text));
    match ConnInfo::parse(&quoted) {
        Ok(info) => {
            assert_eq!(info.application_name.as_deref().unwrap_or_default(), text);
            assert_eq!(info.user.as_deref(), Some("u"));
        }
        Err(e) => assert!(text.contains('\0'), "{quoted:?}: {e}"),
    }
});
