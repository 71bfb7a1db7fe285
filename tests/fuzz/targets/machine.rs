//! The state machine under any messages of both sides: no panic, and what it claims holds together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgcanon::session::machine::{Machine, Reply, RequestId, Status};
use pgcanon::wire::frame::Frame;

const FRONT: &[u8] = b"QPBDECSHFdcfpX";
const BACK: &[u8] = b"ZCEKRSNATDGHWIVncd123tsv";

fuzz_target!(|data: &[u8]| {
    let mut machine = Machine::after_login();
    let mut rest = data;
    let mut asked: Option<RequestId> = None;
    let mut answered: Option<RequestId> = None;
    // A message is one byte for its type (the high bit: from the server), one for the length of its body, and the body.
    while let Some((&[kind, len], more)) = rest.split_first_chunk() {
        let (body, more) = more.split_at(usize::from(len).min(more.len()));
        rest = more;
        let (tags, index) = if kind & 0x80 == 0 { (FRONT, kind) } else { (BACK, kind & 0x7f) };
        // Beyond the table: a type that nobody knows.
        let tag = tags.get(usize::from(index) % (tags.len() + 1)).copied().unwrap_or(index);
        let was_lost = machine.is_lost();
        if kind & 0x80 == 0 {
            let head = &body[..body.len().min(Machine::frontend_interest(tag))];
            let id = machine.on_frontend(Frame { tag, body_len: body.len() as u32, head });
            assert!(!was_lost || id.is_none(), "a lost machine follows nothing");
            if let Some(id) = id {
                assert!(asked.is_none_or(|last| id > last), "{id:?} is not after {asked:?}");
                assert!(!machine.is_idle() || tag == b'c' || tag == b'f', "something was asked");
                asked = Some(id);
            }
        } else {
            let head = &body[..body.len().min(Machine::backend_interest(tag))];
            match machine.on_backend(Frame { tag, body_len: body.len() as u32, head }) {
                Reply::To(id) => {
                    assert!(!was_lost);
                    assert!(answered.is_none_or(|last| id >= last), "{id:?} was answered before {answered:?}");
                    assert!(asked.unwrap_or(RequestId(0)) >= id, "{id:?} was never asked");
                    answered = Some(id);
                    if tag == b'Z' {
                        let status = match head {
                            b"T" => Status::Block,
                            b"E" => Status::Failed,
                            _ => Status::Idle,
                        };
                        assert_eq!(machine.status(), status, "the server knows");
                    }
                }
                Reply::Async => assert!(!was_lost),
                Reply::Unexpected => assert!(machine.is_lost()),
            }
        }
        assert!(!was_lost || machine.is_lost(), "what is lost stays lost");
        if machine.is_idle() {
            assert_eq!((machine.status(), machine.is_lost()), (Status::Idle, false));
        }
    }
    let names = machine.statements().chain(machine.portals()).chain(machine.savepoints());
    assert!(names.count() <= data.len() + 2, "no more names than there were bytes");
});
