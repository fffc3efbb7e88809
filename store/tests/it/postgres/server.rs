//! A PostgreSQL server for the tests of one process, from installed binaries.
//!
//! The binaries are searched in the directory that `TRIGGERS_TEST_POSTGRES` names, in `PATH`, and
//! where Debian installs them. If the variable is set, as in continuous integration, a missing
//! server fails the tests; if not, the tests print that they are skipped and pass. The server
//! listens on a socket in its own directory. It stops however this process ends, because its shell
//! then reads the end of its input, and it removes the directory. PostgreSQL refuses to run as
//! root, so for root it runs as the user `postgres`.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

const BINARIES: &str = "TRIGGERS_TEST_POSTGRES";
/// Runs the server. Each line of input is a signal that stops it; then it is started again.
const SCRIPT: &str = r#"
run() {
  "$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c max_connections=500 "$@" \
    >>"$dir/log" 2>&1 &
  pid=$!
}
"$bin/initdb" -D "$dir/data" -U triggers -A trust -E UTF8 --no-sync >>"$dir/log" 2>&1 || exit
run "$@"
while read -r signal; do
  kill -s "$signal" $pid; wait $pid; run "$@"
done
kill -s QUIT $pid; wait $pid; rm -rf "$dir"
"#;

pub struct Server {
    directory: PathBuf,
    /// Closing the input stops the server.
    input: Mutex<ChildStdin>,
    _shell: Child,
}

/// The server that all tests share; `None` if there are no binaries.
#[allow(dead_code, reason = "not every package's tests share one")]
pub fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(&[])).as_ref()
}

impl Server {
    /// Starts a server with additional arguments.
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let binaries = binaries()?;
        let directory =
            tempfile::Builder::new().prefix("triggers-postgres-").tempdir().unwrap().keep();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", SCRIPT, "sh"])
            .args(arguments)
            .env("bin", &binaries)
            .env("dir", &directory);
        if rustix::process::geteuid().is_root() {
            let (user, group) = postgres_user();
            chown(&directory, Some(user), Some(group)).unwrap();
            shell.uid(user).gid(group);
        }
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut shell =
            shell.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let input = Mutex::new(shell.stdin.take().unwrap());
        let server = Self { directory, input, _shell: shell };
        server.wait_for(1);
        Some(server)
    }

    /// Path of the socket that it listens on.
    #[allow(dead_code, reason = "not every package's tests need it")]
    pub fn socket(&self) -> PathBuf {
        self.directory.join(".s.PGSQL.5432")
    }

    #[allow(dead_code, reason = "not every package's tests need it")]
    pub fn url(&self) -> String {
        format!("postgresql:///postgres?host={}&user=triggers", self.directory.display())
    }

    /// Kills the server without a clean stop, and starts it again.
    pub fn crash(&self) {
        let starts = self.starts();
        writeln!(self.input.lock().unwrap(), "QUIT").unwrap();
        self.wait_for(starts + 1);
    }

    /// How often the server has started, according to its log.
    fn starts(&self) -> usize {
        self.log().matches("database system is ready to accept connections").count()
    }

    fn wait_for(&self, starts: usize) {
        let looks_max = 3_000;
        for _ in 0..looks_max {
            if self.starts() >= starts {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server does not start: {}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

/// Finds the directory of `initdb` and `postgres`.
fn binaries() -> Option<PathBuf> {
    let named = std::env::var_os(BINARIES).map(PathBuf::from);
    if let Some(named) = named {
        assert!(are_in(&named), "{BINARIES} names {}, where PostgreSQL is not", named.display());
        return Some(named);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"));
    let found = std::env::split_paths(&path).chain(debian).find(|directory| are_in(directory));
    if found.is_none() {
        static SAID: OnceLock<()> = OnceLock::new();
        SAID.get_or_init(|| {
            eprintln!("SKIPPED: no PostgreSQL is installed (Debian: apt-get install postgresql)")
        });
    }
    found
}

fn are_in(directory: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|name| directory.join(name).exists())
}

/// User and group id of Debian's `postgres` user.
fn postgres_user() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("a user postgres, for root must not run it");
    let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
    (fields.next().unwrap(), fields.next().unwrap())
}
