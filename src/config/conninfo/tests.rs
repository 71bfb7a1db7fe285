//! Connection strings as libpq reads them, and where pgcanon says no.

use std::path::Path;

use proptest::prelude::*;

use super::*;

/// What was set, as one line.
fn shown(text: &str) -> String {
    ConnInfo::parse(text).map_or_else(|e| format!("error: {e}"), |info| info.to_string())
}

fn error(text: &str) -> ConnInfoError {
    ConnInfo::parse(text).unwrap_err()
}

#[test]
fn keywords_and_values_are_quoted_as_in_libpq() {
    for (text, want) in [
        ("", ""),
        ("host=db1 port=5433", "host=db1 port=5433"),
        ("  host = db1\n\tport\x0b=\x0c 5433 ", "host=db1 port=5433"),
        (r"dbname='my db' user='o\'hara'", r"dbname='my db' user='o\'hara'"),
        (r"dbname=my\ db user=o\'hara", r"dbname='my db' user='o\'hara'"),
        (r"dbname=a\\b", r"dbname='a\\b'"),
        (r"dbname=a\", "dbname=a"),
        ("dbname='a'user=b", "dbname=a user=b"),
        ("dbname=a'b", r"dbname='a\'b'"),
        ("dbname='' user=b", "user=b"),
        ("dbname= user=b", "dbname=user=b"),
        ("port=1 port=2", "port=2"),
        ("dbname=données user='é à'", "dbname=données user='é à'"),
        ("sslrootcert=system sslnegotiation=direct", "sslrootcert=system sslnegotiation=direct"),
        ("password=x connect_timeout=5 options='-c a=b'", "password=*** connect_timeout=5 options='-c a=b'"),
        ("connect_timeout=-1", "connect_timeout=0"),
    ] {
        assert_eq!(shown(text), want, "{text}");
    }
}

#[test]
fn uris_are_taken_apart_as_in_libpq() {
    for (text, want) in [
        ("postgres://", ""),
        ("postgresql://h", "host=h"),
        ("postgres://h:5433/db", "host=h port=5433 dbname=db"),
        ("postgres://h:/db", "host=h dbname=db"),
        ("postgres://u@h", "host=h user=u"),
        ("postgres://u:p@h/", "host=h user=u password=***"),
        ("postgres://u:@h", "host=h user=u"),
        ("postgres://@h", "host=h"),
        ("postgres:///db", "dbname=db"),
        ("postgres://[::1]:5433/db", "host=::1 port=5433 dbname=db"),
        ("postgres://[::1]", "host=::1"),
        ("postgres://%2Frun%2Fpg:5433/db", "host=/run/pg port=5433 dbname=db"),
        ("postgres:///db?host=/run/pg&port=1", "host=/run/pg port=1 dbname=db"),
        ("postgres://h?sslmode=require&application_name=a%20b", "host=h sslmode=require application_name='a b'"),
        ("postgres://h?ssl=true", "host=h sslmode=require"),
        ("postgres://h/a%2Fb%C3%A9", "host=h dbname=a/bé"),
        ("postgres://h/db?options=-c%20a%3Db", "host=h dbname=db options='-c a=b'"),
        ("postgres://h/x@y?user=a@b", "host=h dbname=x@y user=a@b"),
    ] {
        assert_eq!(shown(text), want, "{text}");
    }
    let info = ConnInfo::parse("postgres://u%40x:p%3A%40%2F%25@h").unwrap();
    assert_eq!((info.user.as_deref(), info.password), (Some("u@x"), Some(Secret::new("p:@/%"))));
}

#[test]
fn what_cannot_be_read_says_where() {
    for (text, want) in [
        ("host", "character 1: this word is no keyword=value"),
        ("host=a port 5432", "character 8: this word is no keyword=value"),
        ("host=a =b", "character 8: this word is no keyword=value"),
        ("host=a user='b", "character 8: the single quote that begins this value is not closed"),
        ("postgres://[::1", "`[` without its `]`"),
        ("postgres://[]/db", "no address between"),
        ("postgres://[::1]x", "may follow the `]`"),
        ("postgres://h?sslmode", "has no `=`"),
        ("postgres://h?dbname=a=b", "written %3D"),
        ("postgres://h/%", "two hexadecimal digits"),
        ("postgres://h/%4", "two hexadecimal digits"),
        ("postgres://h/%+4", "two hexadecimal digits"),
        ("postgres://h/%00", "%00"),
        ("postgres://h/%FF", "not UTF-8"),
        ("port=0", "from 1 to 65535"),
        ("port=65536", "from 1 to 65535"),
        ("host=@abstract", "abstract sockets"),
        ("hostaddr=db1", "a host name goes into `host`"),
        ("connect_timeout=5s", "whole number of seconds"),
        ("sslmode=verify", "it takes `disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`"),
    ] {
        let message = error(text).to_string();
        assert!(message.contains(want), "{text}: {message}");
    }
}

#[test]
fn several_hosts_are_no_node() {
    for text in [
        "host=a,b",
        "port=1,2",
        "hostaddr=10.0.0.1,10.0.0.2",
        "postgres://a,b/db",
        "postgres://a:1,b:2/db",
        "postgres://[::1],[::2]/db",
        "postgres://[::1]:1,[::2]:2/db",
    ] {
        assert_eq!(error(text), ConnInfoError::SeveralHosts, "{text}");
    }
}

#[test]
fn unknown_is_told_from_unsupported_and_from_harmless() {
    assert_eq!(error("hots=a"), ConnInfoError::Unknown { keyword: "hots".into(), suggestion: Some("host") });
    assert_eq!(error("ssl-mode=a"), ConnInfoError::Unknown { keyword: "ssl-mode".into(), suggestion: Some("sslmode") });
    assert_eq!(error("frobnicate=a"), ConnInfoError::Unknown { keyword: "frobnicate".into(), suggestion: None });
    for text in [
        "service=x",
        "requirepeer=postgres",
        "require_auth=scram-sha-256",
        "channel_binding=require",
        "gssencmode=require",
        "target_session_attrs=read-write",
        "ssl_min_protocol_version=TLSv1.3",
        "sslcompression=1",
        "replication=database",
    ] {
        assert!(matches!(error(text), ConnInfoError::Unsupported { .. }), "{text}");
    }
    let harmless = "fallback_application_name=x client_encoding=utf8 keepalives=1 keepalives_idle=1 keepalives_interval=1 \
                    keepalives_count=1 tcp_user_timeout=1 channel_binding=prefer gssencmode=disable \
                    target_session_attrs=any ssl_min_protocol_version=TLSv1.2 sslcompression=0 service=''";
    assert_eq!(shown(harmless), "");
}

#[test]
fn the_mode_that_holds_follows_the_root_certificate() {
    for (text, mode) in [
        ("", SslMode::Prefer),
        ("sslrootcert=/ca", SslMode::Prefer),
        ("sslmode=require", SslMode::Require),
        ("sslmode=require sslrootcert=/ca", SslMode::VerifyCa),
        ("sslmode=disable sslrootcert=/ca", SslMode::Disable),
        ("sslrootcert=system", SslMode::VerifyFull),
    ] {
        let info = ConnInfo::parse(text).unwrap();
        assert_eq!(info.sslmode(), mode, "{text}");
        assert_eq!(info.check(), Ok(()), "{text}");
    }
}

#[test]
fn keywords_that_contradict_each_other_are_found() {
    for text in [
        "sslmode=verify-full",
        "sslmode=verify-ca",
        "sslmode=require sslrootcert=system",
        "sslmode=verify-ca sslrootcert=system",
        "sslnegotiation=direct",
        "sslnegotiation=direct sslmode=prefer",
        "sslcert=/c",
        "sslkey=/k",
    ] {
        let info = ConnInfo::parse(text).unwrap();
        assert!(matches!(info.check(), Err(ConnInfoError::Combination(_))), "{text}");
    }
    let fine = ConnInfo::parse("sslnegotiation=direct sslmode=require sslcert=/c sslkey=/k").unwrap();
    assert_eq!(fine.check(), Ok(()));
}

#[test]
fn what_lies_on_top_goes_first() {
    for (under, on_top, want) in [
        ("host=/srv port=1", "dbname=app user=u", "host=/srv port=1 dbname=app user=u"),
        ("host=/srv port=1 user=a", "user=b port=2", "host=/srv port=2 user=b"),
        ("host=a hostaddr=10.0.0.1", "host=b", "host=b"),
        ("host=a hostaddr=10.0.0.1", "hostaddr=10.0.0.2", "host=a hostaddr=10.0.0.2"),
        ("password=x", "passfile=/p", "passfile=/p"),
        ("passfile=/p", "password=x", "password=*** passfile=/p"),
        (
            "sslmode=disable sslrootcert=/a sslcert=/a sslkey=/a sslcrl=/a sslnegotiation=postgres connect_timeout=1 \
             application_name=a options=a dbname=a",
            "sslmode=require sslrootcert=system sslcert=/b sslkey=/b sslcrl=/b sslnegotiation=direct connect_timeout=2 \
             application_name=b options=b dbname=b",
            "dbname=b sslmode=require sslrootcert=system sslcert=/b sslkey=/b sslcrl=/b sslnegotiation=direct \
             connect_timeout=2 application_name=b options=b",
        ),
    ] {
        let (under, on_top) = (ConnInfo::parse(under).unwrap(), ConnInfo::parse(on_top).unwrap());
        assert_eq!(under.overlay(&on_top).to_string(), want);
        assert_eq!(under.overlay(&ConnInfo::default()), under);
        assert_eq!(ConnInfo::default().overlay(&on_top), on_top);
    }
}

#[test]
fn a_named_host_is_the_only_candidate() {
    let candidates = |text: &str| -> Vec<String> {
        ConnInfo::parse(text).unwrap().candidates().iter().map(ToString::to_string).collect()
    };
    assert_eq!(candidates("host=/srv/ port=1"), ["/srv/.s.PGSQL.1"]);
    assert_eq!(candidates("host=db1"), ["db1:5432"]);
    assert_eq!(candidates("host=::1"), ["[::1]:5432"]);
    assert_eq!(candidates("host=db1 hostaddr=10.0.0.1"), ["db1:5432 (10.0.0.1)"]);
    assert_eq!(candidates("host=/srv hostaddr=10.0.0.1"), ["10.0.0.1:5432"]);
    assert_eq!(
        candidates("port=5439"),
        ["/var/run/postgresql/.s.PGSQL.5439", "/run/postgresql/.s.PGSQL.5439", "/tmp/.s.PGSQL.5439", "localhost:5439"]
    );
    let literal = ConnInfo::parse("host=10.0.0.1").unwrap().candidates();
    assert_eq!(literal, [Endpoint::Tcp { host: "10.0.0.1".into(), addr: "10.0.0.1".parse().ok(), port: 5432 }]);
}

#[test]
fn the_password_is_the_one_given_or_that_of_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pgpass");
    std::fs::write(&file, "localhost:*:app:u:sock\n/srv:*:app:u:srv\ndb1:5433:u:u:tcp\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let password = |text: &str| {
        let mut info = ConnInfo::parse(text).unwrap();
        info.passfile = Some(file.clone());
        let found = info.password_for(&info.candidates()[0]).unwrap();
        found.map(|s| s.expose().to_owned())
    };
    assert_eq!(password("user=u dbname=app").as_deref(), Some("sock"));
    assert_eq!(password("host=/srv user=u dbname=app").as_deref(), Some("srv"));
    assert_eq!(password("host=db1 port=5433 user=u").as_deref(), Some("tcp"));
    assert_eq!(password("host=db1 port=5433 user=u password=x").as_deref(), Some("x"));
    assert_eq!(password("host=db2 port=5433 user=u"), None);
    let missing = ConnInfo { passfile: Some(Path::new("/none").into()), ..ConnInfo::parse("user=u").unwrap() };
    assert!(missing.password_for(&missing.candidates()[0]).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in r"\PC*", uri in r"[a-z0-9:/@?&=%\[\],. ]*") {
        let _ = ConnInfo::parse(&text);
        let _ = ConnInfo::parse(&format!("postgres://{uri}"));
        let _ = ConnInfo::parse(&format!("postgres://{text}"));
    }

    #[test]
    fn a_quoted_value_comes_back_as_it_was(values in proptest::collection::vec(any::<String>(), 1..4)) {
        let text: Vec<String> = values.iter().map(|v| format!("dbname={}", quote(v))).collect();
        let want: Vec<_> = values.into_iter().map(|v| ("dbname".to_owned(), v)).collect();
        prop_assert_eq!(pairs(&text.join(" ")).unwrap(), want);
    }

    #[test]
    fn a_percent_encoded_value_comes_back_as_it_was(value in "[^\0]+") {
        let encoded: String = value.bytes().map(|b| format!("%{b:02x}")).collect();
        let info = ConnInfo::parse(&format!("postgres://{encoded}:{encoded}@h/{encoded}?application_name={encoded}")).unwrap();
        prop_assert_eq!(info.password.as_ref().map(Secret::expose), Some(value.as_str()));
        prop_assert_eq!(info.user.as_ref(), Some(&value));
        prop_assert_eq!(info.dbname.as_ref(), Some(&value));
        prop_assert_eq!(info.application_name.as_ref(), Some(&value));
    }
}
