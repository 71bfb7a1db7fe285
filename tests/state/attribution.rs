//! Which reply belongs to which request.

use crate::common::msg::{
    bind, close, copy_data, copy_done, copy_fail, describe, execute, flush, function_call, parse, query, sync, together,
};
use crate::follower::Follower;
use pgcanon::session::machine::Reply;

/// Runs the frames and gives, for every reply, its type and the place of its request among those sent; `-` for nobody's.
fn owners(frames: &[Vec<u8>]) -> String {
    let mut follower = Follower::login(1);
    follower.exchange(&query("create temp table t (i int unique deferrable initially deferred, s text)"));
    let (requests, replies) = follower.exchange(&together(frames));
    // Nothing is left behind that a later request would be given.
    let (probe, after) = follower.exchange(&query("select 1"));
    let expected = ['T', 'D', 'C', 'Z'].map(|tag| (tag, Reply::To(probe[0])));
    assert_eq!(after, expected);
    let place = |reply: &Reply| match reply {
        Reply::To(id) => requests.iter().position(|r| r == id).expect("a request of these").to_string(),
        Reply::Async => "-".into(),
        Reply::Unexpected => "?".into(),
    };
    replies.iter().map(|(tag, reply)| format!("{tag}{}", place(reply))).collect::<Vec<_>>().join(" ")
}

#[test]
fn simple_queries() {
    let sent = [query("select 1; select 2"), query(""), query("select 1; select 1/0; select 3"), query("selec")];
    assert_eq!(owners(&sent), "T0 D0 C0 T0 D0 C0 Z0 I1 Z1 T2 D2 C2 E2 Z2 E3 Z3");
}

#[test]
fn notices_and_parameters_belong_to_nobody() {
    let sent =
        [query("do $$ begin raise notice 'x'; end $$"), query("set application_name = 'x'"), query("begin; begin")];
    assert_eq!(owners(&sent), "N- C0 Z0 C1 S- Z1 C2 N- C2 Z2");
}

#[test]
fn a_pipeline() {
    let sent = [
        parse("a", "select generate_series(1, 3)", &[]),
        bind("p", "a", &[]),
        describe(b'S', "a"),
        describe(b'P', "p"),
        execute("p", 2),
        execute("p", 0),
        close(b'P', "p"),
        close(b'S', "a"),
        sync(),
        parse("", "set local work_mem = 1000", &[]),
        describe(b'S', ""),
        parse("", "", &[]),
        bind("", "", &[]),
        execute("", 0),
        sync(),
        sync(),
    ];
    assert_eq!(owners(&sent), "10 21 t2 T2 T3 D4 D4 s4 D5 C5 36 37 Z8 19 t10 n10 111 212 I13 Z14 Z15");
}

#[test]
fn after_an_error_everything_up_to_sync_is_passed_over() {
    let sent = [
        parse("", "select 1/0", &[]),
        bind("", "", &[]),
        execute("", 0),
        parse("", "select 2", &[]),
        query("select 3"),
        function_call(1, &[]),
        sync(),
        query("select 4"),
    ];
    // The query and the call behind the error are not answered: only Sync ends the skipping.
    assert_eq!(owners(&sent), "10 E1 Z6 T7 D7 C7 Z7");
}

#[test]
fn errors_at_every_step_of_a_pipeline() {
    let steps = [
        [parse("", "selec", &[]), bind("", "", &[]), execute("", 0)],
        [parse("", "select 1", &[]), bind("", "missing", &[]), execute("", 0)],
        [parse("", "select 1", &[]), bind("", "", &[]), execute("missing", 0)],
        [parse("", "select 1", &[]), bind("", "", &[]), describe(b'S', "missing")],
    ];
    let expected = ["E0 Z3 Z4", "10 E1 Z3 Z4", "10 21 E2 Z3 Z4", "10 21 E2 Z3 Z4"];
    for (step, expected) in steps.iter().zip(expected) {
        let sent = [step.as_slice(), &[sync(), sync()]].concat();
        assert_eq!(owners(&sent), expected);
    }
}

#[test]
fn an_error_at_sync_itself() {
    let sent =
        [parse("", "insert into t values (1), (1)", &[]), bind("", "", &[]), execute("", 0), sync(), query("select 1")];
    // The deferred constraint is looked at when Sync commits.
    assert_eq!(owners(&sent), "10 21 C2 E3 Z3 T4 D4 C4 Z4");
}

#[test]
fn function_calls() {
    let int4abs = 1397;
    let sent = [function_call(int4abs, &[Some(&[255; 4])]), function_call(1, &[]), query("select 1")];
    assert_eq!(owners(&sent), "V0 Z0 E1 Z1 T2 D2 C2 Z2");
}

#[test]
fn copy_in_and_out_by_simple_query() {
    let sent = [
        query("copy t from stdin; copy t to stdout; copy t from stdin"),
        copy_data("1\ta\n"),
        copy_done(),
        copy_data("2\tb\n"),
        copy_done(),
        query("select 1"),
    ];
    // Requests are the query, the two ends of data, the last query.
    assert_eq!(owners(&sent), "G0 C0 H0 d0 c0 C0 G0 C0 Z0 T3 D3 C3 Z3");
}

#[test]
fn copy_data_behind_a_query_that_failed_is_nobodys() {
    let sent = [query("copy missing from stdin"), copy_data("1\n"), copy_done(), query("select 1")];
    assert_eq!(owners(&sent), "E0 Z0 T2 D2 C2 Z2");
}

#[test]
fn copy_that_the_client_or_the_server_ends() {
    let failed = [query("copy t from stdin"), copy_data("1\ta\n"), copy_fail("no more"), query("select 1")];
    assert_eq!(owners(&failed), "G0 E0 Z0 T2 D2 C2 Z2");
    let refused = [query("copy t from stdin"), copy_data("x\ty\tz\n"), copy_done(), query("select 1")];
    assert_eq!(owners(&refused), "G0 E0 Z0 T2 D2 C2 Z2");
}

#[test]
fn a_sync_before_the_end_of_copied_data_is_swallowed() {
    let copy = |early: Vec<u8>, end: Vec<u8>| {
        [
            parse("", "copy t from stdin", &[]),
            bind("", "", &[]),
            execute("", 0),
            early,
            copy_data("1\ta\n"),
            end,
            sync(),
            query("select 1"),
        ]
    };
    assert_eq!(owners(&copy(sync(), copy_done())), "10 21 G2 C2 Z5 T6 D6 C6 Z6");
    assert_eq!(owners(&copy(flush(), copy_done())), "10 21 G2 C2 Z4 T5 D5 C5 Z5");
    assert_eq!(owners(&copy(sync(), copy_fail("x"))), "10 21 G2 E2 Z5 T6 D6 C6 Z6");
}

#[test]
fn a_sync_behind_a_copy_that_did_not_begin_is_answered() {
    let sent = [
        parse("", "copy missing from stdin", &[]),
        bind("", "", &[]),
        execute("", 0),
        sync(),
        copy_data("1\n"),
        copy_done(),
        sync(),
    ];
    assert_eq!(owners(&sent), "10 21 E2 Z3 Z5");
}
