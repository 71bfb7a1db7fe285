//! The first packet: what is read does not depend on how much has arrived behind it, and lengths stay in range.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgcanon::wire::startup::{self, MAX_STARTUP, Startup};

fn len(startup: &Startup) -> usize {
    match startup {
        Startup::Ssl { len } | Startup::Gss { len } | Startup::Cancel { len } | Startup::Session { len, .. } => *len,
    }
}

fuzz_target!(|data: &[u8]| {
    let parsed = startup::parse(data);
    match &parsed {
        Ok(Some(startup)) => {
            let len = len(startup);
            assert!((8..=MAX_STARTUP).contains(&len) && len <= data.len());
            assert_eq!(startup::parse(&data[..len]), parsed, "what comes behind it is not looked at");
            assert_eq!(startup::parse(&data[..len - 1]), Ok(None), "a byte less is not enough");
        }
        Ok(None) => assert!(data.len() < MAX_STARTUP, "nothing is waited for beyond the limit"),
        Err(_) => assert_eq!(startup::parse(&data[..4]), parsed, "the length alone is wrong"),
    }
    // Packets of our own are read as they were meant.
    let mut texts = data.split(|&b| b == 0).map(String::from_utf8_lossy);
    if let (Some(user), Some(database), Some(name)) = (texts.next(), texts.next(), texts.next())
        && user.len() + database.len() + name.len() < 9_000
    {
        let packet = startup::packet(&[("user", &user), ("database", &database), ("application_name", &name)]);
        match startup::parse(&packet) {
            Ok(Some(Startup::Session { len, params })) => {
                assert_eq!(len, packet.len());
                assert_eq!([&params.user, &params.database, &params.application_name], [&*user, &*database, &*name]);
                assert!(!params.replication);
            }
            other => panic!("{other:?}"),
        }
    }
});
