//! FunctionCall, the oldest way to call the server; libpq's large objects still take it.

use crate::common::msg::{function_call, query};
use crate::common::oracle::{same, states, tags};

const LO_CREATE: u32 = 715;
const LO_OPEN: u32 = 952;
const LO_CLOSE: u32 = 953;
const LOREAD: u32 = 954;
const LOWRITE: u32 = 955;
const LO_LSEEK: u32 = 956;
const LO_TELL: u32 = 958;
const LO_UNLINK: u32 = 964;
const READ_WRITE: i32 = 0x2_0000 | 0x4_0000;

fn int(value: i32) -> [u8; 4] {
    value.to_be_bytes()
}

#[test]
fn large_objects() {
    same(|c| {
        c.login();
        let oid = int(4_242_424);
        c.send(&function_call(LO_CREATE, &[Some(&oid)]));
        assert_eq!(tags(&c.ready()), "VZ");
        c.query("begin");
        c.send(&function_call(LO_OPEN, &[Some(&oid), Some(&int(READ_WRITE))]));
        c.ready();
        let fd = int(0);
        let data = vec![0xa5; 500_000];
        for _ in 0..4 {
            c.send(&function_call(LOWRITE, &[Some(&fd), Some(&data)]));
            c.ready();
        }
        c.pipeline(&[
            function_call(LO_TELL, &[Some(&fd)]),
            function_call(LO_LSEEK, &[Some(&fd), Some(&int(100)), Some(&int(0))]),
            function_call(LOREAD, &[Some(&fd), Some(&int(1_000_000))]),
            function_call(LOREAD, &[Some(&fd), Some(&int(10))]),
            function_call(LO_CLOSE, &[Some(&fd)]),
            query("commit"),
            function_call(LO_UNLINK, &[Some(&oid)]),
        ]);
        for _ in 0..7 {
            c.ready();
        }
        c.send(&function_call(LO_UNLINK, &[Some(&oid)]));
        assert_eq!(states(&c.ready()), ["42704"]);
    });
}

#[test]
fn errors_nulls_and_broken_transactions() {
    same(|c| {
        c.login();
        c.send(&function_call(0, &[]));
        assert_eq!(tags(&c.ready()), "EZ");
        c.send(&function_call(LO_OPEN, &[Some(&int(1))]));
        assert_eq!(tags(&c.ready()), "EZ");
        c.send(&function_call(LO_TELL, &[None])); // strict: null in, null out
        assert_eq!(tags(&c.ready()), "VZ");
        c.query("begin");
        c.query("select 1/0");
        c.send(&function_call(LO_TELL, &[Some(&int(0))]));
        assert_eq!(states(&c.ready()), ["25P02"]);
        c.query("rollback");
        c.pipeline(&[function_call(LO_TELL, &[Some(&int(77))]), query("select 1"), function_call(LO_TELL, &[None])]);
        for _ in 0..3 {
            c.ready();
        }
    });
}
