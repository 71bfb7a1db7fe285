//! Who may use the console, and what for.

use std::process::Command;

use rustix::process::Signal;

use super::common::{Cluster, PATIENCE, Pg, Proxy, proc, proxy};

const USERS: &str = "[node]\nadmin = \"127.0.0.1:0\"\n\
    [[console_user]]\nname = \"operator\"\npassword = \"pässword\"\nmay = \"act\"\n\
    [[console_user]]\nname = \"eyes\"\npassword = \"seeing\"\n";

/// What psql as this user, with this password, printed: its output and its errors.
fn say(proxy: &Proxy, host: &str, user: &str, password: &str, sql: &str) -> (String, String) {
    let mut psql = proxy::psql(host, proxy.console_port());
    psql.args(["-U", user, "-w", "-At", "-v", "VERBOSITY=verbose", "-c", sql]).env("PGPASSWORD", password);
    both(&mut psql)
}

fn both(command: &mut Command) -> (String, String) {
    let output = proc::output(command, PATIENCE);
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

const VERSION: &str = concat!("pgcanon ", env!("CARGO_PKG_VERSION"), "\n");

#[test]
fn with_users_a_password_is_asked_for_and_a_looker_cannot_act() {
    let proxy = Proxy::start(&Cluster::shared(Pg::V15), USERS);
    let tcp = "127.0.0.1";
    assert_eq!(say(&proxy, tcp, "operator", "pässword", "show version").0, VERSION);
    assert_eq!(
        say(&proxy, tcp, "eyes", "seeing", "show version; begin; commit").0,
        format!("{VERSION}BEGIN\nCOMMIT\n")
    );
    for (user, password) in [("operator", "password"), ("eyes", ""), ("nobody", "seeing"), ("operator", "seeing")] {
        let (shown, told) = say(&proxy, tcp, user, password, "show version");
        assert!(shown.is_empty() && !told.is_empty(), "{user} with {password:?}: {shown}{told}");
        let wanted = format!("FATAL:  password authentication failed for user \"{user}\"");
        assert!(password.is_empty() || told.contains(&wanted), "{told}");
    }
    for sql in ["reload", "pause b", "resume b", "select deal_sync_err_rec(1)", "select skip_sync_err_rec(1)"] {
        let (shown, told) = say(&proxy, tcp, "eyes", "seeing", sql);
        assert!(
            shown.is_empty() && told.contains("ERROR:  42501: \"eyes\" may look, and not change anything"),
            "{sql}: {told}"
        );
        assert!(told.contains("HINT:  This needs may = \"act\""), "{told}");
    }
    assert_eq!(say(&proxy, tcp, "operator", "pässword", "reload").1, "");
    // Nothing of it stands in the log.
    assert!(!proxy.log().contains("seeing") && !proxy.log().contains("pässword"));
}

#[test]
fn passwords_change_with_a_reload() {
    let proxy = Proxy::start(&Cluster::shared(Pg::V15), USERS);
    assert_eq!(say(&proxy, "127.0.0.1", "eyes", "seeing", "show version").0, VERSION);
    let text = std::fs::read_to_string(proxy.config_path()).expect("read the configuration");
    std::fs::write(proxy.config_path(), text.replace("seeing", "blind")).expect("write the configuration");
    proxy.signal(Signal::HUP);
    proxy.wait_log("reloaded");
    assert_eq!(say(&proxy, "127.0.0.1", "eyes", "blind", "show version").0, VERSION);
    assert_eq!(say(&proxy, "127.0.0.1", "eyes", "seeing", "show version").0, "");
}

#[test]
fn on_its_unix_socket_the_proxys_own_user_needs_no_password_and_others_do() {
    for (config, other) in [(USERS, "28000"), ("[node]\nadmin = \"127.0.0.1:0\"\n", "28000")] {
        let proxy = Proxy::start(&Cluster::shared(Pg::V15), config);
        let dir = proxy.socket_dir().display().to_string();
        assert_eq!(say(&proxy, &dir, "anybody", "", "show version").0, VERSION);
        assert_eq!(say(&proxy, &dir, "anybody", "", "reload").1, "");
        if !rustix::process::geteuid().is_root() {
            continue; // only root can be somebody else
        }
        let as_postgres = |user: &str, password: &str| {
            let mut psql =
                proc::guarded(std::path::Path::new("/usr/lib/postgresql/15/bin/psql"), "KILL", Some("postgres"));
            psql.args(["-X", "-w", "-At", "-h", &dir, "-p", &proxy.console_port().to_string(), "-U", user, "-d", "x"]);
            psql.args(["-c", "show version"]).env("PGPASSWORD", password);
            both(&mut psql)
        };
        if config == USERS {
            assert_eq!(as_postgres("eyes", "seeing").0, VERSION);
            assert!(as_postgres("eyes", "wrong").1.contains("password authentication failed"));
        } else {
            let (shown, told) = as_postgres("postgres", "x");
            assert!(shown.is_empty() && told.contains("is not the user that pgcanon runs as"), "{other}: {told}");
        }
    }
}

#[test]
fn the_socket_goes_with_the_proxy() {
    let proxy = Proxy::start(&Cluster::shared(Pg::V15), "[node]\nadmin = \"127.0.0.1:0\"\n");
    let socket = proxy.socket_dir().join(format!(".s.PGSQL.{}", proxy.console_port()));
    assert!(socket.exists());
    proxy.signal(Signal::TERM);
    proxy.wait_exit();
    assert!(!socket.exists());
}
