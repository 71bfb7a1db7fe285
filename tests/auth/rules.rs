//! `[[allow]]` rules stand before the server: the first that fits counts, and whom none fits is told so.

use std::io::{Read, Write};
use std::net::SocketAddr;

use rustix::process::Signal;

use crate::client_leg::section;
use crate::common::{Client, Proxy, msg};
use crate::site::{PASSWORD, Refused, Site, tls};

fn refusal(host: &str, user: &str, database: &str, encryption: &str) -> (String, String) {
    let message = format!(
        "no [[allow]] rule of the proxy for host \"{host}\", user \"{user}\", database \"{database}\", {encryption}"
    );
    ("28000".into(), message)
}

fn words(refused: Refused) -> (String, String) {
    (refused.sqlstate, refused.message)
}

/// Whether a client with another loopback address is let in.
fn comes_in_from(from: [u8; 4], proxy: &Proxy) -> bool {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("any loopback address is ours");
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], proxy.port())).into()).expect("connect");
    let mut stream = std::net::TcpStream::from(socket);
    let startup = msg::startup(msg::version(3, 0), &[("user", "trusty"), ("database", "postgres")]);
    stream.write_all(&startup).expect("send");
    let mut tag = [0];
    stream.read_exact(&mut tag).expect("an answer");
    tag == *b"R"
}

#[test]
fn addresses_are_matched_as_networks() {
    let site = Site::shared();
    let proxy = site.proxy("", "[[allow]]\naddress = [\"127.0.0.1\", \"127.0.3.0/24\"]\n");
    for (from, expected) in [
        ([127, 0, 0, 1], true),
        ([127, 0, 0, 2], false),
        ([127, 0, 3, 77], true),
        ([127, 0, 2, 255], false),
        ([127, 0, 4, 0], false),
    ] {
        assert_eq!(comes_in_from(from, &proxy), expected, "{from:?}");
    }
    let refused = site.login(Client::connect(&proxy.unix()), "trusty", "").expect_err("no rule for the socket");
    assert_eq!(words(refused), refusal("[local]", "trusty", "postgres", "no encryption"));
    let proxy = site.proxy("", "[[allow]]\naddress = \"local\"\n");
    assert_eq!(site.login(Client::connect(&proxy.unix()), "trusty", "").map(drop), Ok(()));
    let refused = site.login(Client::connect(&proxy.tcp()), "trusty", "").expect_err("no rule for TCP");
    assert_eq!(words(refused), refusal("127.0.0.1", "trusty", "postgres", "no encryption"));
}

#[test]
fn databases_and_users_are_matched_by_name() {
    let site = Site::shared();
    site.cluster.psql("create database rules_shop");
    let rules = "[[allow]]\ndatabase = \"postgres\"\nuser = [\"trusty\", \"passy\"]\n\
                 [[allow]]\ndatabase = \"rules_shop\"\nuser = \"scramy\"\n";
    let proxy = site.proxy("", &format!("{rules}{}", section("allow", &site, &site.server)));
    for (user, database, expected) in [
        ("trusty", "postgres", true),
        ("passy", "postgres", true),
        ("scramy", "rules_shop", true),
        ("scramy", "postgres", false),
        ("trusty", "rules_shop", false),
        ("Trusty", "postgres", false),
        ("nobody", "elsewhere", false),
    ] {
        let plain = site.login_to(Client::connect(&proxy.tcp()), user, database, PASSWORD).map(drop);
        let client = tls(&proxy.tcp(), site.certs.client_config(None, None));
        let encrypted = site.login_to(client, user, database, "irrelevant").map(drop);
        if expected {
            assert_eq!(plain, Ok(()), "{user} {database}");
        } else {
            // Before any password is asked for.
            let told = [plain, encrypted].map(|got| words(got.expect_err("no rule")));
            let expected = ["no encryption", "SSL encryption"].map(|leg| refusal("127.0.0.1", user, database, leg));
            assert_eq!(told, expected);
        }
    }
    site.cluster.psql("drop database rules_shop with (force)");
}

#[test]
fn a_database_that_is_not_named_is_the_users() {
    let site = Site::shared();
    let proxy = site.proxy("", "[[allow]]\ndatabase = \"trusty\"\n");
    let ask = |params: &[(&str, &str)]| {
        let mut client = Client::connect(&proxy.tcp());
        client.send(&msg::startup(msg::version(3, 0), params));
        let frames = client.until(b'E');
        frames.last().and_then(|frame| frame.field(b'C')).expect("a SQLSTATE")
    };
    // There is no such database, and that it is the server that says so shows that the rule fits.
    assert_eq!(ask(&[("user", "trusty")]), "3D000");
    assert_eq!(ask(&[("user", "trusty"), ("database", "")]), "3D000");
    assert_eq!(ask(&[("user", "passy")]), "28000");
    // The last of a parameter counts, as on the server.
    assert_eq!(ask(&[("user", "passy"), ("user", "trusty"), ("database", "x"), ("database", "trusty")]), "3D000");
    assert_eq!(ask(&[("user", "trusty"), ("database", "trusty"), ("database", "postgres")]), "28000");
}

#[test]
fn whom_no_rule_fits_never_reaches_the_server() {
    let site = Site::shared();
    // There is no server; only one who passes the rules finds out.
    let rules = "[[allow]]\nuser = \"trusty\"\n";
    let proxy = Proxy::start_for("host=127.0.0.1 port=1 sslmode=disable", rules);
    let login = |user| site.login(Client::connect(&proxy.tcp()), user, "").expect_err("no server").sqlstate;
    assert_eq!((login("trusty").as_str(), login("passy").as_str()), ("57P03", "28000"));
    assert_eq!(proxy.metric(r#"pgcanon_refusals_total{reason="allow"}"#), 1.0);
    proxy.wait_log("reason=\"allow\"");
}

#[test]
fn rules_are_reloaded() {
    let site = Site::shared();
    let proxy = site.proxy("", "[[allow]]\nuser = \"trusty\"\n");
    let login = |user| site.login(Client::connect(&proxy.tcp()), user, PASSWORD).is_ok();
    assert_eq!((login("trusty"), login("passy")), (true, false));
    let config = std::fs::read_to_string(proxy.config_path()).expect("read the configuration");
    std::fs::write(proxy.config_path(), config.replace("trusty", "passy")).expect("write the configuration");
    proxy.signal(Signal::HUP);
    proxy.wait_log("in force for new sessions");
    assert_eq!((login("trusty"), login("passy")), (false, true));
}
