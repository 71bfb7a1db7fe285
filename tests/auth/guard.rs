//! The guard: to the server all clients come from the proxy, and what it grants the proxy is not everybody's.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::cluster::PG15_BIN;
use crate::common::{Client, Cluster, PATIENCE, Pg, Proxy, eventually, proc, temp_dir};
use crate::site::{PASSWORD, Refused, Site, psql};

fn login(site: &Site, client: Client, user: &str) -> Result<(), Refused> {
    site.login(client, user, PASSWORD).map(drop)
}

#[test]
fn a_server_that_trusts_everybody_here_trusts_local_clients_of_the_proxy() {
    let site = Site::shared();
    let over_unix = format!("host={} port={}", site.cluster.socket_dir().display(), site.cluster.port());
    for server in [site.over_tcp("sslmode=disable"), site.over_tcp("sslmode=require"), over_unix] {
        let proxy = Proxy::start_for(&server, "");
        assert_eq!(login(&site, Client::connect(&proxy.tcp()), "trusty"), Ok(()), "{server}");
        assert_eq!(login(&site, Client::connect(&proxy.unix()), "trusty"), Ok(()), "{server}");
    }
}

fn whoami() -> String {
    proc::run(Command::new("id").arg("-un"), PATIENCE).trim().to_owned()
}

/// A cluster that trusts everybody, with a role for the user who runs the proxy.
fn with_role(name: &str) -> Cluster {
    let cluster = Cluster::start(Pg::V15, "", "");
    if name != "postgres" {
        cluster.psql(&format!("create role \"{name}\" superuser login"));
    }
    cluster
}

fn only_peer(cluster: &Cluster) {
    std::fs::write(cluster.data_dir().join("pg_hba.conf"), "local all all peer\n").expect("write pg_hba.conf");
    cluster.reload();
}

#[test]
fn peer_is_for_the_proxys_own_user_and_not_for_whoever_claims_its_name() {
    let me = whoami();
    let cluster = with_role(&me);
    let server = format!("host={} port={}", cluster.socket_dir().display(), cluster.port());
    let proxy = Proxy::start_for(&server, "");
    only_peer(&cluster);
    let conninfo =
        |addr: &crate::common::Addr| format!("host={} port={} user={me} dbname=postgres", addr.host(), addr.port());

    let told = eventually("the server to read pg_hba.conf", || psql(&conninfo(&proxy.tcp()), "select 1").err());
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines[0],
        format!(
            "FATAL:  connection of user \"{me}\" from 127.0.0.1 refused: the server asked for no proof of identity"
        )
    );
    assert_eq!(lines[1], "DETAIL:  The server took the proxy's own Unix user or certificate for the client's.");
    assert!(lines[2].starts_with("HINT:  Let the proxy reach the server where pg_hba.conf asks for a password"));
    assert_eq!(proxy.metric(r#"pgcanon_refusals_total{reason="unproven"}"#), 1.0);

    // The kernel vouches for who comes by Unix socket.
    assert_eq!(psql(&conninfo(&proxy.unix()), "select current_user").as_deref(), Ok(me.as_str()));
    if proc::is_root() {
        let mut other = Command::new("setpriv");
        other.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"]);
        other.arg(format!("{PG15_BIN}/psql")).args(["-XwAtc", "select 1", "-d", &conninfo(&proxy.unix())]);
        let output = proc::output(&mut other, PATIENCE);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("from [local] refused: the server asked for no proof of identity"), "{told}");
    }
    // Whom an operator vouches for comes in all the same.
    let proxy =
        Proxy::start_for(&server, &format!("[[allow]]\naddress = \"127.0.0.1\"\nuser = \"{me}\"\ntrust = true\n"));
    assert_eq!(psql(&conninfo(&proxy.tcp()), "select current_user").as_deref(), Ok(me.as_str()));
}

#[test]
fn what_the_server_no_longer_trusts_the_proxy_no_longer_admits() {
    let me = whoami();
    let cluster = with_role(&me);
    let proxy = Proxy::start(&cluster, "");
    let conninfo = format!("host=127.0.0.1 port={} user={me} dbname=postgres", proxy.port());
    assert_eq!(psql(&conninfo, "select 1").as_deref(), Ok("1"), "everybody is trusted");
    only_peer(&cluster);
    eventually("the proxy to notice", || psql(&conninfo, "select 1").is_err().then_some(()));
}

#[test]
fn who_is_trusted_by_name_is_not_taken_for_the_proxys_own_user() {
    let site =
        Site::start_with(Pg::V15, "local all postgres trust\nlocal all trusty trust\nlocal all all scram-sha-256\n");
    let proxy = Proxy::start(&site.cluster, "");
    assert_eq!(login(&site, Client::connect(&proxy.tcp()), "trusty"), Ok(()));
}

#[test]
fn peer_does_not_keep_out_who_proves_to_be_somebody() {
    let hba = "local all postgres trust\nlocal all scramy scram-sha-256\nlocal all all peer\n";
    let site = Site::start_with(Pg::V15, hba);
    let proxy = Proxy::start(&site.cluster, "");
    assert_eq!(login(&site, Client::connect(&proxy.tcp()), "scramy"), Ok(()));
    // One whom the server itself refuses hears the server.
    let told = login(&site, Client::connect(&proxy.tcp()), "passy").expect_err("not the proxy's user");
    assert_eq!(told.message, "Peer authentication failed for user \"passy\"");
}

#[test]
fn an_open_server_is_not_put_on_the_network() {
    let cluster = Cluster::shared(Pg::V15); // trusts everybody
    for listen in ["*:0", "0.0.0.0:0", "[::]:0"] {
        let overrides = format!("[node]\nlisten = [\"127.0.0.1:0\", \"{listen}\"]\n");
        let server = format!("host={} port={}", cluster.socket_dir().display(), cluster.port());
        let proxy = Proxy::launch(&server, &overrides);
        assert_eq!(proxy.wait_exit().code(), Some(2), "{listen}");
        let log = proxy.log();
        assert!(log.contains("pgcanon: refusing to listen beyond this machine"), "{log}");
        assert!(log.contains("trust = true in an [[allow]] rule"), "{log}");
    }
}

// === beyond this machine ===

/// A proxy in a network namespace of its own, where it has an address that is not loopback. Needs root.
struct Away {
    dir: tempfile::TempDir,
    child: Child,
}

const ADDRESS: &str = "10.77.0.1";

impl Away {
    fn launch(cluster: &Cluster, rules: &str) -> Away {
        let dir = temp_dir("away");
        let config = format!(
            "[node]\nname = \"a\"\nlisten = [\"*:6432\"]\nserver = \"host={} port={}\"\n{rules}",
            cluster.socket_dir().display(),
            cluster.port()
        );
        std::fs::write(dir.path().join("pgcanon.toml"), config).expect("write the configuration");
        let log = std::fs::File::create(dir.path().join("log")).expect("make the log");
        let mut command = proc::guarded(Path::new("unshare"), "KILL", None);
        let script = format!("ip link set lo up && ip addr add {ADDRESS}/32 dev lo && exec \"$0\" run --config \"$1\"");
        command.args(["-n", "sh", "-c", &script, env!("CARGO_BIN_EXE_pgcanon")]).arg(dir.path().join("pgcanon.toml"));
        command.stdout(Stdio::null()).stderr(log);
        Away { dir, child: proc::spawn(command).expect("start the proxy") }
    }

    fn start(cluster: &Cluster, rules: &str) -> Away {
        let mut away = Away::launch(cluster, rules);
        eventually("the proxy to be ready", || {
            assert!(away.child.try_wait().expect("wait").is_none(), "{}", away.log());
            away.log().contains("node: ready").then_some(())
        });
        away
    }

    fn log(&self) -> String {
        let path: PathBuf = self.dir.path().join("log");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// What psql says there, coming from the address it goes to.
    fn psql(&self, host: &str, user: &str) -> Result<String, String> {
        let mut psql = Command::new("nsenter");
        psql.args(["-t", &self.child.id().to_string(), "-n", "--"]).arg(format!("{PG15_BIN}/psql"));
        let conninfo = format!("host={host} port=6432 user={user} dbname=postgres password={PASSWORD}");
        psql.args(["-XwAtc", "select 1", "-d", &conninfo]).env("HOME", "/nonexistent");
        let output = proc::output(&mut psql, PATIENCE);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_client_from_elsewhere_has_to_prove_itself_or_be_vouched_for() {
    if !proc::is_root() {
        return; // no namespace without root
    }
    let site = Site::start_with(Pg::V15, "local all scramy scram-sha-256\nlocal all all trust\n");
    let rules = format!("[[allow]]\naddress = \"{ADDRESS}\"\nuser = \"certy\"\ntrust = true\n[[allow]]\n");
    let away = Away::start(&site.cluster, &rules);
    let told = away.psql(ADDRESS, "trusty").expect_err("it would be let in whoever it is");
    assert!(told.contains(&format!(
        "FATAL:  connection of user \"trusty\" from {ADDRESS} refused: the server asked for no proof of identity"
    )));
    assert!(told.contains("DETAIL:  The server trusts the proxy's address"), "{told}");
    assert!(told.contains("HINT:  Let pg_hba.conf ask for a password"), "{told}");
    assert_eq!(away.psql(ADDRESS, "scramy").as_deref(), Ok("1"), "has a password");
    assert_eq!(away.psql(ADDRESS, "certy").as_deref(), Ok("1"), "is vouched for");
    for host in ["127.0.0.1", "::1"] {
        assert_eq!(away.psql(host, "trusty").as_deref(), Ok("1"), "is here");
    }
}

#[test]
fn a_server_that_asks_for_passwords_may_be_put_on_the_network() {
    if !proc::is_root() {
        return; // no namespace without root
    }
    let site = Site::start_with(Pg::V15, "local all postgres trust\nlocal all all scram-sha-256\n");
    let away = Away::start(&site.cluster, "");
    assert_eq!(away.psql(ADDRESS, "scramy").as_deref(), Ok("1"));
    // What one line of pg_hba.conf trusts is seen when somebody makes use of it.
    let told = away.psql(ADDRESS, "postgres").expect_err("no proof");
    assert!(told.contains("the server asked for no proof of identity"), "{told}");
    // A server that cannot be asked at the start is asked by each session.
    let other = Site::start_with(Pg::V15, "local all all trust\n");
    other.cluster.stop(crate::common::cluster::Stop::Fast);
    let away = Away::start(&other.cluster, "");
    assert!(away.log().contains("cannot find out whether the server asks for proof of identity"), "{}", away.log());
    other.cluster.restart();
    let told = away.psql(ADDRESS, "postgres").expect_err("no proof");
    assert!(told.contains("the server asked for no proof of identity"), "{told}");
}
