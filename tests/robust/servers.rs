//! Servers that die or hang: the client sees what it would see without a proxy, and the node goes on when they are back.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::cluster::Stop;
use crate::common::raw::Got;
use crate::common::{Addr, Client, Cluster, PATIENCE, Pg, Proxy, eventually, msg, proc};
use crate::{QUIET, Scene, no_panic, outline, rest, runs, startup};

/// The same thing done to sessions on the server itself and through the proxy, on both kinds of socket; what each saw.
fn seen_by_all(
    scene: &Scene,
    prepare: impl Fn(&mut Client),
    act: impl FnOnce(&Cluster, &[i32]),
    see: impl Fn(&mut Client) -> Vec<String>,
) -> Vec<(Addr, Vec<String>)> {
    let addrs = [scene.cluster.unix(), scene.cluster.tcp(), scene.proxy.tcp(), scene.proxy.unix()];
    let mut pids = Vec::new();
    let mut clients = addrs.map(|addr| {
        let mut client = Client::connect(&addr);
        client.send(&startup("postgres"));
        pids.extend(client.until_ready().iter().filter(|frame| frame.tag == b'K').map(|frame| frame.key().0));
        prepare(&mut client);
        client
    });
    act(&scene.cluster, &pids);
    clients.iter_mut().map(|client| (client.addr.clone(), see(client))).collect()
}

fn all_the_same(seen: &[(Addr, Vec<String>)]) -> &[String] {
    for (addr, outline) in seen {
        assert_eq!(outline, &seen[0].1, "{addr:?} and {:?}", seen[0].0);
    }
    &seen[0].1
}

/// The node serves new sessions again after its server has come back.
fn recovers(scene: &Scene) {
    eventually("new sessions", || {
        let mut client = Client::connect(&scene.proxy.tcp());
        client.send(&startup("postgres"));
        rest_until_ready(&mut client).then_some(())
    });
    eventually("the old ones to be over", || (scene.proxy.metric("pgcanon_sessions") == 0.0).then_some(()));
    no_panic(&scene.proxy);
}

fn rest_until_ready(client: &mut Client) -> bool {
    loop {
        match client.frame_within(PATIENCE) {
            Got::Frame(frame) if frame.tag == b'Z' => return true,
            Got::Frame(_) => {}
            _ => return false,
        }
    }
}

#[test]
fn a_session_that_the_server_ends_hears_why() {
    let mut scene = Scene::new("");
    let seen = seen_by_all(
        &scene,
        |_| {},
        |cluster, pids| {
            pids.iter().for_each(|pid| assert_eq!(cluster.psql(&format!("select pg_terminate_backend({pid})")), "t"))
        },
        outline,
    );
    let expected = ["E FATAL 57P01 terminating connection due to administrator command", "closed"];
    assert_eq!(all_the_same(&seen), expected);
    scene.is_clean();
}

#[test]
fn a_server_that_stops_ends_its_sessions_in_its_own_words() {
    for (how, prepare) in [
        (Stop::Fast, None),
        (Stop::Fast, Some("select pg_sleep(60)")),
        (Stop::Immediate, None),
        (Stop::Immediate, Some("copy (select generate_series(1, 100000000)) to stdout")),
    ] {
        let scene = Scene::new("");
        let seen = seen_by_all(
            &scene,
            |client| {
                if let Some(sql) = prepare {
                    client.send(&msg::query(sql));
                    runs(&scene.cluster, sql);
                }
            },
            |cluster, _| cluster.stop(how),
            |client| {
                // How much of a COPY got out before the end is chance.
                let (frames, end) = rest(client);
                let mut words: Vec<String> =
                    frames.iter().filter(|f| matches!(f.tag, b'E' | b'N')).map(crate::sketch).collect();
                words.push(if matches!(end, Got::Closed | Got::Torn(_)) {
                    "closed".into()
                } else {
                    format!("{end:?}")
                });
                words
            },
        );
        // In an immediate shutdown a backend tries to say so, and not each succeeds, directly or not.
        if matches!(how, Stop::Fast) {
            assert_eq!(all_the_same(&seen).len(), 2, "{how:?} {prepare:?}: {seen:?}");
        }
        assert!(seen.iter().all(|(_, words)| words.last().is_some_and(|w| w == "closed")), "{seen:?}");
        scene.cluster.restart();
        recovers(&scene);
    }
}

#[test]
fn a_killed_backend_is_a_closed_connection() {
    for sql in [None, Some("select pg_sleep(60)")] {
        let scene = Scene::new("");
        let victims =
            |_: &Cluster, pids: &[i32]| pids.iter().for_each(|pid| proc::kill(pid.unsigned_abs(), Signal::KILL));
        let seen =
            seen_by_all(&scene, |client| client.send(&sql.map(msg::query).unwrap_or_default()), victims, outline);
        for (addr, outline) in &seen {
            // The first kill makes the postmaster end the others, some of which may say so before their own end, behind what
            // they had ready: the head of a result without rows.
            let said = |line: &str| line.starts_with("N WARNING 57P02") || line.starts_with("T[");
            let words = outline.iter().filter(|line| !said(line)).collect::<Vec<_>>();
            assert_eq!(words, ["closed"], "{addr:?}");
        }
        recovers(&scene);
    }
}

#[test]
fn a_server_that_crashes_within_a_result_is_a_torn_result() {
    let scene = Scene::new("");
    let seen = seen_by_all(
        &scene,
        |client| {
            client.send(&msg::query("copy (select repeat('x', 10000), generate_series(1, 100000000)) to stdout"));
            client.until(b'd');
        },
        |cluster, _| cluster.kill9(),
        |client| {
            let (frames, end) = rest(client);
            assert!(frames.iter().all(|frame| matches!(frame.tag, b'd' | b'E' | b'N')), "only what the server sent");
            vec![format!("{}", matches!(end, Got::Closed | Got::Torn(_)))]
        },
    );
    assert_eq!(all_the_same(&seen), ["true"]);
    let refused = refusal(&scene.proxy);
    assert_eq!(refused, "E FATAL 57P03 the proxy cannot reach the database server");
    scene.cluster.restart();
    recovers(&scene);
}

fn refusal(proxy: &Proxy) -> String {
    let mut client = Client::connect(&proxy.tcp());
    client.send(&startup("postgres"));
    let mut outline = outline(&mut client);
    assert_eq!(outline.pop().as_deref(), Some("closed"));
    outline.pop().expect("a word before the end")
}

#[test]
fn a_server_that_hangs_is_given_up_in_time() {
    let cluster = Cluster::start(Pg::V15, "", "");
    let unix = format!("host={} port={}", cluster.socket_dir().display(), cluster.port());
    let tcp = format!("host=127.0.0.1 port={}", cluster.port());
    for server in
        [unix, format!("{tcp} sslmode=disable"), format!("{tcp} sslmode=prefer"), format!("{tcp} sslmode=allow")]
    {
        let proxy = Proxy::start_for(&server, "[node]\nconnect_timeout = \"600ms\"");
        let mut bystander = Client::login(&proxy.tcp());
        cluster.pause();
        let start = Instant::now();
        assert_eq!(refusal(&proxy), "E FATAL 57P03 the proxy cannot reach the database server", "{server}");
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(600), "{server}: {took:?}");
        assert!(took < Duration::from_millis(1100), "{server}: once, not for each way of asking: {took:?}");
        assert_eq!(proxy.http("/readyz").0, if server.contains('/') { 200 } else { proxy.http("/readyz").0 });

        bystander.send(&msg::query("select 'late'"));
        assert!(matches!(bystander.frame_within(QUIET), Got::Nothing), "the server hangs, and nobody answers for it");
        cluster.resume();
        let row = bystander.until_ready().into_iter().find(|frame| frame.tag == b'D').expect("a row");
        assert_eq!(row.columns(), [Some("late".to_owned())]);
        eventually("sessions again", || {
            let mut client = Client::connect(&proxy.tcp());
            client.send(&startup("postgres"));
            rest_until_ready(&mut client).then_some(())
        });
        no_panic(&proxy);
    }
}
