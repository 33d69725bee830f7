//! A jar to put attacks in: one host, one template for all tests that run at the same time, and
//! the answer of what an attack said and how it ended.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use belljar_base::frame::End;
use belljar_base::{RunId, Timestamp};
use belljar_sandbox::backend::jail::Jail;
use belljar_sandbox::{
    Attendance, Backend, Branch, Cause, Command, Enclosed, Ended, Host, LimitHit, Limiter, Limits,
    Spec, StartError, Stream, Template, Writable, attend,
};

/// What every sandbox of these tests starts from.
pub(crate) struct Shared {
    pub(crate) host: Arc<Host>,
    pub(crate) jail: Jail,
    pub(crate) template: Template,
    /// Holds the templates.
    pub(crate) folder: PathBuf,
    /// The same, gone with the last test that uses it.
    _own: Option<tempfile::TempDir>,
}

/// Names a directory of templates that exist already.
pub(crate) const TEMPLATES: &str = "BELLJAR_TEST_TEMPLATES";

/// The template is built once for the tests that overlap in time.
pub(crate) fn shared() -> Arc<Shared> {
    static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
    let mut place = SHARED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(shared) = place.upgrade() {
        return shared;
    }
    // A supervisor that is to be killed gets the templates of the test that kills it.
    let given = std::env::var_os(TEMPLATES).map(PathBuf::from);
    let own = given.is_none().then(|| tempfile::tempdir().unwrap());
    let folder = given.unwrap_or_else(|| own.as_ref().unwrap().path().to_path_buf());
    let host = Arc::new(Host::probe().unwrap());
    let shared = Arc::new(Shared {
        template: Template::host(&folder, &host).unwrap(),
        jail: Jail::new(Arc::clone(&host)),
        host,
        folder,
        _own: own,
    });
    *place = Arc::downgrade(&shared);
    shared
}

/// A name that no other sandbox has, in this process or another.
pub(crate) fn fresh_id() -> RunId {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let nanos = now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned();
    let number = NEXT.fetch_add(1, Ordering::Relaxed) << 16 | std::process::id() & 0xffff;
    RunId::new(Timestamp::from_nanos(nanos), number)
}

/// A sandbox and a command, while they are being described.
pub(crate) struct Jar {
    pub(crate) shared: Arc<Shared>,
    pub(crate) spec: Spec,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) directory: PathBuf,
    pub(crate) terminal: Option<(u16, u16)>,
    pub(crate) stdin: Option<OwnedFd>,
}

pub(crate) fn limits() -> Limits {
    Limits {
        cpu_millis: None,
        memory_bytes: 1 << 30,
        pids: 256,
        wall: Duration::from_secs(30),
        disk_bytes: 64 << 20,
        inodes: 10_000,
        output_bytes: 4 << 20,
        open_files: 1024,
    }
}

pub(crate) fn jar() -> Jar {
    let shared = shared();
    Jar {
        spec: Spec {
            id: fresh_id(),
            branches: Vec::new(),
            reads: Vec::new(),
            writes: Vec::new(),
            shows: Vec::new(),
            network: belljar_sandbox::network::Network::None,
            limits: limits(),
        },
        environment: vec![("PATH".into(), "/usr/bin:/bin:/usr/sbin:/sbin".into())],
        directory: shared.template.home.clone(),
        terminal: None,
        stdin: None,
        shared,
    }
}

impl Jar {
    pub(crate) fn branch(mut self, directory: &Path) -> Self {
        let directory = directory.canonicalize().unwrap();
        self.directory.clone_from(&directory);
        self.spec.branches.push(Branch { directory });
        self
    }

    pub(crate) fn read(mut self, path: &Path) -> Self {
        self.spec.reads.push(path.canonicalize().unwrap());
        self
    }

    pub(crate) fn write(mut self, source: &Path, at: &str, in_place: bool) -> Self {
        let source = source.canonicalize().unwrap();
        let at = at.into();
        self.spec.writes.push(Writable {
            source,
            at,
            in_place,
        });
        self
    }

    pub(crate) fn limit(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.spec.limits);
        self
    }

    pub(crate) fn start(&self) -> Result<Box<dyn Enclosed>, StartError> {
        self.shared.jail.start(&self.spec, &self.shared.template)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        Command {
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: self.environment.clone(),
            directory: self.directory.clone(),
            terminal: self.terminal,
        }
    }

    pub(crate) fn run(mut self, arguments: &[&str]) -> Outcome {
        let mut sandbox = self.start().unwrap();
        let attendance = Attendance {
            stdin: self.stdin.take(),
            stdout: Stream::Keep,
            stderr: Stream::Keep,
            signals: None,
        };
        let command = self.command(arguments);
        let limits = &self.spec.limits;
        outcome(attend(&mut *sandbox, &command, limits, attendance).unwrap())
    }

    pub(crate) fn sh(self, script: &str) -> Outcome {
        self.run(&["/bin/sh", "-c", script])
    }

    pub(crate) fn python(self, script: &str) -> Outcome {
        let script = format!("{PRELUDE}\n{script}");
        self.run(&["/usr/bin/python3", "-I", "-c", &script])
    }
}

/// `call(name, number, *arguments)` prints what the kernel answers to a system call.
pub(crate) const PRELUDE: &str = r#"
import ctypes, errno, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def answer(number, *arguments):
    ctypes.set_errno(0)
    given = libc.syscall(number, *arguments)
    return "OPEN" if given >= 0 else errno.errorcode[ctypes.get_errno()]
def call(name, number, *arguments):
    print(name, answer(number, *arguments), flush=True)
def attempt(name, deed):
    try:
        deed()
        print(name, "OPEN", flush=True)
    except OSError as error:
        print(name, errno.errorcode[error.errno], flush=True)
"#;

/// The same script outside: shows that an attack succeeds where no wall is.
pub(crate) fn outside(script: &str) -> String {
    let script = format!("{PRELUDE}\n{script}");
    let output = std::process::Command::new("/usr/bin/python3")
        .args(["-I", "-c", &script])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What an attack said, and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) ended: Ended,
}

pub(crate) fn outcome(ended: Ended) -> Outcome {
    let [out, err] = [0, 1].map(|stream| String::from_utf8_lossy(&ended.kept[stream]).into_owned());
    Outcome { out, err, ended }
}

impl Outcome {
    /// Compares everything it wrote to its output.
    #[track_caller]
    pub(crate) fn says(&self, wanted: &str) {
        assert_eq!(self.out.trim(), wanted.trim(), "its errors: {}", self.err);
    }

    #[track_caller]
    pub(crate) fn hit(&self, limit: LimitHit) {
        assert!(self.ended.hits.contains(&limit), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn code(&self, code: u8) {
        assert_eq!(self.ended.cause, Cause::Exited(End::Code(code)), "{self:?}");
    }
}

/// Whether control groups hold the limits, which only root or a delegated user has.
pub(crate) fn has_groups(shared: &Shared) -> bool {
    let held = matches!(shared.host.limiter(), Limiter::Cgroup(_));
    if !held {
        println!("no control groups here: what resource limits promise is tested instead");
    }
    held
}

/// Processes of the host whose command line contains a text.
pub(crate) fn processes_with(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let name = entry.file_name().to_string_lossy().into_owned();
        let own = name == std::process::id().to_string();
        if !own && String::from_utf8_lossy(&line).contains(text) {
            found.push(name);
        }
    }
    found
}

/// Waits a moment for processes with a text in their command line to be gone.
#[track_caller]
pub(crate) fn assert_gone(text: &str) {
    for _attempt in 0..100 {
        if processes_with(text).is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("still running: {:?}", processes_with(text));
}
