//! A place of its own for each test: a home, a state directory, a workspace, and the program.

pub(crate) mod canary; // a value that must be nowhere
pub(crate) mod world; // servers outside, for runs that may reach some

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;

/// The program under test.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("BELLJAR_BIN").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_belljar")),
        PathBuf::from,
    )
}

/// Whether the tests run as root: then limits are held by control groups.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What a call of the program answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Answer {
    /// It succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// The JSON object on the last line of the output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let last = self.out.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The id of the run that `--json` told of.
    #[track_caller]
    pub(crate) fn run(&self) -> String {
        self.json()["run"].as_str().unwrap().to_owned()
    }
}

/// A home, a state directory and a workspace, gone at the end.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::on(&std::env::temp_dir())
    }

    /// A place somewhere else.
    pub(crate) fn on(directory: &Path) -> Self {
        let folder = tempfile::tempdir_in(directory).unwrap();
        for name in ["home", "work"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// The program, with an environment that the place alone decides.
    pub(crate) fn command(&self) -> Command {
        self.around(&program())
    }

    /// Another program in the environment of the place.
    pub(crate) fn around(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", self.path("home"))
            .env("BELLJAR_STATE", self.path("state"))
            .env("TMPDIR", std::env::temp_dir())
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn call<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Answer {
        self.command().args(arguments).output().unwrap().into()
    }

    /// Runs a script in the workspace.
    pub(crate) fn script(&self, options: &[&str], script: &str) -> Answer {
        let mut command = self.command();
        command
            .args(["run", "--json", "--workspace"])
            .arg(self.work());
        command.args(options).args(["--", "sh", "-c", script]);
        command.output().unwrap().into()
    }

    /// Runs a script with the workspace and the database `shop`.
    pub(crate) fn both(&self, script: &str) -> Answer {
        let database = format!("shop={}", self.path("shop.db").display());
        self.script(&["--db", &database], script)
    }

    /// Makes a file of the workspace.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.work().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.work().join(name)).unwrap()
    }

    /// Makes the database `shop.db` with a table of so many items.
    pub(crate) fn shop(&self, rows: u32) {
        let shop = self.database();
        shop.execute_batch("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, stock INTEGER)")
            .unwrap();
        shop.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             INSERT INTO item SELECT i, 'item ' || i, i * 10 FROM n",
            [rows],
        )
        .unwrap();
    }

    pub(crate) fn database(&self) -> Connection {
        Connection::open(self.path("shop.db")).unwrap()
    }

    pub(crate) fn items(&self) -> Vec<String> {
        rows(&self.path("shop.db"))
    }

    /// The whole outside: every file of the workspace, every row of the database.
    pub(crate) fn outside(&self) -> (BTreeMap<String, String>, Vec<String>) {
        let database = self.path("shop.db");
        let items = if database.exists() {
            self.items()
        } else {
            Vec::new()
        };
        (tree(&self.work()), items)
    }

    /// The ledger holds, and nothing of Belljar is under way or left behind.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        let verified = self.call(["audit", "verify"]);
        assert_eq!(verified.code, Some(0), "{verified:?}");
        let live = names(&self.path("state/live"));
        assert!(live.is_empty(), "still live: {live:?}");
        let all = groups("");
        for run in names(&self.path("state/runs")) {
            let left = all
                .iter()
                .find(|group| group.ends_with(format!("belljar-{run}")));
            assert_eq!(left, None, "groups of {run}");
        }
    }
}

/// Names in a directory; none if it is not there.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Control groups of a run, or of all runs if it is empty.
pub(crate) fn groups(run: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let roots = mounts
        .lines()
        .filter(|line| line.contains(" - cgroup"))
        .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from));
    let mut found = Vec::new();
    for root in roots {
        find(&root, &format!("belljar-{run}"), 4, &mut found);
    }
    found
}

fn find(folder: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    if depth == 0 {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().starts_with(name) {
                found.push(entry.path());
            }
            find(&entry.path(), name, depth - 1, found);
        }
    }
}

/// Every row of every table, as text in order.
pub(crate) fn rows(database: &Path) -> Vec<String> {
    let database = Connection::open(database).unwrap();
    let mut tables = database
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .unwrap();
    let tables: Vec<(String, String)> = tables
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut all = Vec::new();
    for (table, sql) in tables {
        all.push(sql);
        let mut select = database
            .prepare(&format!("SELECT * FROM \"{table}\" ORDER BY 1"))
            .unwrap();
        let columns = select.column_count();
        let mut found = select.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let cells: Vec<String> = (0..columns)
                .map(|column| format!("{:?}", row.get_ref(column).unwrap()))
                .collect();
            all.push(format!("{table}: {}", cells.join(", ")));
        }
    }
    all
}

/// Everything below a directory: kind, mode, content or target.
pub(crate) fn tree(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    describe(folder, folder, &mut found);
    found
}

fn describe(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let data = fs::symlink_metadata(&path).unwrap();
        let mode = data.permissions().mode() & 0o7777;
        let what = if data.is_dir() {
            format!("directory {mode:o}")
        } else if data.is_symlink() {
            format!("link to {}", fs::read_link(&path).unwrap().display())
        } else {
            let bytes = fs::read(&path).unwrap();
            let text: String = bytes.escape_ascii().take(4096).map(char::from).collect();
            format!("file {mode:o} {} bytes {text}", bytes.len())
        };
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        found.insert(name, what);
        if data.is_dir() {
            describe(root, &path, found);
        }
    }
}

/// Modification times of regular files, in nanoseconds.
pub(crate) fn times(folder: &Path) -> BTreeMap<String, i128> {
    let mut all = BTreeMap::new();
    for name in tree(folder).into_keys() {
        let data = fs::symlink_metadata(folder.join(&name)).unwrap();
        if data.is_file() {
            let time = i128::from(data.mtime()) * 1_000_000_000 + i128::from(data.mtime_nsec());
            all.insert(name, time);
        }
    }
    all
}

/// Processes whose command line has the marker.
pub(crate) fn marked(marker: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in names(Path::new("/proc")) {
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            let line = fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(marker) {
                found.push(format!("{name}: {line}"));
            }
        }
    }
    found
}

/// Waits until something holds, at most so long; whether it does.
pub(crate) fn within(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if begin.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A name that no other test uses.
pub(crate) fn marker() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("marker-{}-{number}", std::process::id())
}

/// Random numbers from a seed that a failing test names.
pub(crate) struct Random {
    pub(crate) seed: u64,
    state: u64,
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BELLJAR_SEED={}", self.seed)
    }
}

impl Random {
    /// The seed that `BELLJAR_SEED` names, else a new one.
    pub(crate) fn new() -> Self {
        let named = std::env::var_os("BELLJAR_SEED");
        let named = named.and_then(|text| text.to_str()?.parse().ok());
        Self::seeded(named.unwrap_or_else(|| {
            let mut bytes = [0; 4];
            rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
            u64::from(u32::from_le_bytes(bytes))
        }))
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = Self { seed, state };
        for _ in 0..4 {
            random.below(2);
        }
        random
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % bound.max(1)
    }

    /// One of several.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let place = self.below(of.len() as u64);
        &of[usize::try_from(place).unwrap()]
    }
}
