//! A server of our own and a client that shows every answer, byte for byte.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Another version's programs: `PGCANON_TEST_PG_BIN`.
fn bin() -> PathBuf {
    std::env::var_os("PGCANON_TEST_PG_BIN").map_or_else(|| "/usr/lib/postgresql/15/bin".into(), PathBuf::from)
}

// === a server of our own ===

pub struct Cluster {
    dir: tempfile::TempDir,
}

impl Cluster {
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("pgcanon-sql").tempdir().unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(dir.path()));
        }
        let data = dir.path().join("data");
        let cluster = Self { dir };
        run(as_postgres("initdb").arg("-D").arg(&data).args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]));
        let options = format!(
            "-c listen_addresses='' -c fsync=off -c max_prepared_transactions=2 -c unix_socket_directories={}",
            cluster.path().display()
        );
        let log = cluster.path().join("log");
        run(as_postgres("pg_ctl").arg("-D").arg(&data).args(["-w", "-o", &options, "-l"]).arg(log).arg("start"));
        cluster
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn connect(&self) -> Connection {
        Connection::open(&self.path().join(".s.PGSQL.5432"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ =
            as_postgres("pg_ctl").arg("-D").arg(self.path().join("data")).args(["-m", "immediate", "stop"]).status();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Servers refuse to run as root.
fn as_postgres(program: &str) -> Command {
    let program = bin().join(program);
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

// === a client that shows what the server answers ===

pub struct Connection {
    stream: UnixStream,
}

/// The answers to one simple query.
#[derive(Debug, Default)]
pub struct Answer {
    pub tags: Vec<String>,
    /// The first column of each row.
    pub rows: Vec<Vec<u8>>,
    pub empty: usize,
    pub error: Option<String>,
}

impl Connection {
    fn open(socket: &Path) -> Self {
        let mut stream = UnixStream::connect(socket).unwrap();
        let body = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
        stream.write_all(&u32::try_from(body.len() + 4).unwrap().to_be_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut connection = Self { stream };
        assert!(connection.read_answer().error.is_none());
        connection
    }

    pub fn query(&mut self, sql: &[u8]) -> Answer {
        let len = u32::try_from(sql.len() + 5).unwrap().to_be_bytes();
        self.stream.write_all(&[&b"Q"[..], &len, sql, b"\0"].concat()).unwrap();
        self.read_answer()
    }

    pub fn must(&mut self, sql: &str) -> Answer {
        let answer = self.query(sql.as_bytes());
        assert_eq!(answer.error, None, "{sql}");
        answer
    }

    fn read_answer(&mut self) -> Answer {
        let mut answer = Answer::default();
        loop {
            let mut head = [0; 5];
            self.stream.read_exact(&mut head).unwrap();
            let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let mut body = vec![0; len - 4];
            self.stream.read_exact(&mut body).unwrap();
            match head[0] {
                b'C' => answer.tags.push(String::from_utf8_lossy(&body[..body.len() - 1]).into_owned()),
                b'D' => {
                    let size = body.get(2..6).and_then(|size| size.try_into().ok()).map_or(-1, i32::from_be_bytes);
                    let size = usize::try_from(size).unwrap_or(0);
                    answer.rows.push(body.get(6..6 + size).unwrap_or_default().to_vec());
                }
                b'I' => answer.empty += 1,
                b'E' => answer.error = Some(String::from_utf8_lossy(&body).into_owned()),
                b'Z' => return answer,
                _ => {}
            }
        }
    }

    /// Back to an idle session without statements and cursors.
    pub fn reset(&mut self) {
        self.query(b"rollback");
        self.must("deallocate all");
        self.must("close all");
    }
}
