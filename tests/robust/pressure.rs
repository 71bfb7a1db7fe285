//! One side that does not read: the other has to wait, the proxy's memory stays flat, and others are served (I7).

use std::time::Duration;

use crate::common::raw::Got;
use crate::common::{Client, Proxy, eventually, msg};
use crate::{QUIET, Scene, memory, startup};

/// How much more memory one session may take at its worst. Buffers of 64 KiB, the requests that wait for an answer, and
/// what the allocator rounds up to.
const BOUND: i64 = 8 << 20;

/// Waits until the proxy has moved nothing for a while: the sockets on both sides are full.
fn stuck(proxy: &Proxy, counter: &str) {
    let mut last = -1.0;
    eventually("the stream to stand still", || {
        let now = proxy.metric(counter);
        let still = now == last && now > 0.0;
        last = now;
        std::thread::sleep(QUIET); // between two looks, not for anything to happen
        still.then_some(())
    });
}

#[test]
fn a_client_that_does_not_read_a_gigabyte() {
    let mut scene = Scene::new("");
    let pid = scene.proxy.pid();
    for addr in scene.addrs() {
        let peak = memory(pid, "VmHWM");
        let mut client = Client::login(&addr);
        client.send(&msg::query("select repeat('x', 1000000) from generate_series(1, 1074)"));
        stuck(&scene.proxy, "pgcanon_server_bytes_total");
        scene.others_are_served();
        assert!(memory(pid, "VmHWM") - peak < BOUND, "{} more", memory(pid, "VmHWM") - peak);
        let mut bytes = 0;
        let mut frames = 0;
        loop {
            let (tag, len) = client.stream_frame(|_| {});
            bytes += len;
            frames += 1;
            if tag == b'Z' {
                break;
            }
        }
        assert_eq!(frames, 1074 + 3);
        assert!(bytes > 1_074_000_000);
        assert!(memory(pid, "VmHWM") - peak < BOUND, "{} more", memory(pid, "VmHWM") - peak);
    }
    scene.is_clean();
}

#[test]
fn a_server_that_does_not_read() {
    let mut scene = Scene::new("");
    let pid = scene.proxy.pid();
    let peak = memory(pid, "VmHWM");
    let mut client = Client::login(&scene.proxy.tcp());
    client.query("create temp table big (a text)");
    client.send(&msg::query("copy big from stdin"));
    client.until(b'G');
    scene.cluster.pause();
    let mut writer = client.clone_handle();
    let writing = std::thread::spawn(move || {
        let mut row = "y".repeat(99_999);
        row.push('\n');
        let frame = msg::copy_data(row);
        (0..1000).for_each(|_| writer.send(&frame)); // 100 MB
        writer.send(&msg::copy_done());
    });
    stuck(&scene.proxy, "pgcanon_client_bytes_total");
    assert!(!writing.is_finished(), "the client has to wait");
    assert_eq!(scene.proxy.http("/healthz").0, 200);
    assert!(memory(pid, "VmHWM") - peak < BOUND, "{} more", memory(pid, "VmHWM") - peak);
    scene.cluster.resume();
    writing.join().expect("all is written");
    assert_eq!(client.until_ready()[0].command(), "COPY 1000");
    assert!(memory(pid, "VmHWM") - peak < BOUND, "{} more", memory(pid, "VmHWM") - peak);
    drop(client);
    scene.is_clean();
}

#[test]
fn very_many_requests_whose_answers_are_not_read() {
    const REQUESTS: usize = 500_000;
    let mut scene = Scene::new("");
    let pid = scene.proxy.pid();
    for (message, answer) in [
        (msg::sync(), b'Z'),
        (msg::query(""), b'Z'),
        (msg::close(b'S', "nobody"), b'3'), // no Sync at all
    ] {
        let peak = memory(pid, "VmHWM");
        // Over a Unix socket: the kernel's own buffers hold less than over TCP.
        let mut client = Client::login(&scene.proxy.unix());
        let mut writer = client.clone_handle();
        let flight = message.repeat(1000);
        let writing = std::thread::spawn(move || {
            (0..REQUESTS / 1000).for_each(|_| writer.send(&flight));
            writer.send(&msg::sync());
        });
        stuck(&scene.proxy, "pgcanon_client_bytes_total");
        assert!(!writing.is_finished(), "the client has to wait");
        scene.others_are_served();
        let grown = memory(pid, "VmHWM") - peak;
        println!("{grown} bytes for the requests of {:?}", message.escape_ascii().to_string());
        assert!(grown < BOUND, "{grown} bytes for requests that wait");
        // Now the answers are read, and each request has one.
        let mut seen = 0;
        while seen < REQUESTS {
            let frame = client.frame();
            seen += usize::from(frame.tag == answer);
            assert!([answer, b'I'].contains(&frame.tag), "{frame:?}");
        }
        client.until_ready();
        writing.join().expect("all is written");
        let grown = memory(pid, "VmHWM") - peak;
        assert!(grown < BOUND, "{grown} bytes for requests that wait");
    }
    scene.is_clean();
}

#[test]
fn both_directions_full_at_once() {
    // A client that writes without reading while the server does the same: only who reads again can go on.
    let mut scene = Scene::new("");
    let mut client = Client::connect(&scene.proxy.unix());
    client.send(&startup("postgres"));
    client.until_ready();
    let mut writer = client.clone_handle();
    let text = "z".repeat(200_000);
    let writing = std::thread::spawn(move || {
        for _ in 0..200 {
            let echo = [
                msg::parse("", "select $1::text", &[]),
                msg::bind("", "", &[Some(text.as_bytes())]),
                msg::execute("", 0),
                msg::sync(),
            ];
            writer.send(&msg::together(&echo));
        }
    });
    stuck(&scene.proxy, "pgcanon_client_bytes_total");
    scene.others_are_served();
    for _ in 0..200 {
        let row = client.until_ready().into_iter().find(|frame| frame.tag == b'D').expect("a row");
        assert_eq!(row.body.len(), 200_006);
    }
    writing.join().expect("all is written");
    assert!(matches!(client.frame_within(Duration::from_millis(50)), Got::Nothing));
    drop(client);
    scene.is_clean();
}
