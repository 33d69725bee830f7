//! Attacks on the limits.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use belljar_sandbox::{Cause, LimitHit};

use crate::support::{assert_gone, has_groups, jar, shared};

#[test]
fn escape_fork_bomb() {
    let mark = format!("belljar-fork-{}", std::process::id());
    let script = format!(
        "import time\n\
         made = 0\n\
         try:\n    \
             while made < 1000:\n        \
                 if os.fork() == 0: os.execv('/bin/sleep', ['sleep', '99', '{mark}'] if 0 else ['sleep', '99'])\n        \
                 made += 1\n\
         except BlockingIOError: print(made < 40)"
    );
    let shared = shared();
    let outcome = jar().limit(|limits| limits.pids = 40).python(&script);
    outcome.says("True");
    if has_groups(&shared) {
        outcome.hit(LimitHit::Pids);
    }
    // A bomb that never stops is over with the wall time.
    let bomb = format!("b() {{ b | b & b; }}; b # {mark}");
    let outcome = jar()
        .limit(|limits| limits.pids = 40)
        .limit(|limits| limits.wall = Duration::from_secs(2))
        .sh(&bomb);
    assert!(
        outcome.ended.duration < Duration::from_secs(20),
        "{outcome:?}"
    );
    assert_gone(&mark);
}

#[test]
fn escape_memory_hog() {
    let limit = |limits: &mut belljar_sandbox::Limits| limits.memory_bytes = 128 << 20;
    let hog =
        "blocks = []\nwhile len(blocks) < 400: blocks.append(b'x' * (1 << 20))\nprint('OPEN')";
    let outcome = jar().limit(limit).python(hog);
    outcome.says("");
    if !has_groups(&shared()) {
        assert!(outcome.err.contains("MemoryError"), "{outcome:?}");
        return;
    }
    outcome.hit(LimitHit::Memory);
    // Files in memory count too, wherever they are: the scratch layer, /dev/shm, no name at all.
    for file in [
        "open('/tmp/x', 'wb')",
        "open('/dev/shm/x', 'wb')",
        "os.fdopen(os.memfd_create('x'), 'wb')",
    ] {
        let script = format!(
            "file = {file}\nfor _ in range(400): file.write(b'x' * (1 << 20))\nprint('OPEN')"
        );
        let outcome = jar()
            .limit(limit)
            .limit(|limits| limits.disk_bytes = 1 << 30)
            .python(&script);
        outcome.says("");
        outcome.hit(LimitHit::Memory);
    }
}

#[test]
fn escape_disk_fill() {
    let work = tempfile::tempdir().unwrap();
    for place in [
        work.path().display().to_string(),
        "/tmp".into(),
        "/dev/shm".into(),
        "/usr/lib".into(),
        "~".into(),
    ] {
        let script = format!(
            "file = open(os.path.expanduser('{place}/x'), 'wb')\nattempt('fill', lambda: [file.write(b'x' * (1 << 20)) for _ in range(100)])"
        );
        let outcome = jar()
            .branch(work.path())
            .limit(|limits| limits.disk_bytes = 16 << 20)
            .limit(|limits| limits.memory_bytes = 512 << 20)
            .python(&script);
        if shared().host.shifts_ids() || !place.starts_with('~') {
            outcome.says("fill ENOSPC");
            outcome.hit(LimitHit::Disk);
        }
    }
    let outcome = jar()
        .limit(|limits| limits.disk_bytes = 16 << 20)
        .sh("dd if=/dev/zero of=/dev/x bs=1M count=20 2>/dev/null; dd if=/dev/zero of=/dev/pts/x bs=1M 2>/dev/null; ls -l /dev/x 2>/dev/null");
    outcome.says("");
}

#[test]
fn escape_inode_fill() {
    let work = tempfile::tempdir().unwrap();
    for place in [
        work.path().display().to_string(),
        "/tmp".into(),
        "/dev/shm".into(),
    ] {
        let script = format!(
            "attempt('files', lambda: [os.mknod('{place}/%d' % n, 0o100600) for n in range(3000)])"
        );
        let outcome = jar()
            .branch(work.path())
            .limit(|limits| limits.inodes = 1000)
            .python(&script);
        outcome.says("files ENOSPC");
        outcome.hit(LimitHit::Inodes);
    }
}

#[test]
fn escape_output_flood() {
    let script = "head -c 30000000 /dev/zero; head -c 20000000 /dev/zero >&2; exit 3";
    let outcome = jar()
        .limit(|limits| limits.output_bytes = 100_000)
        .sh(script);
    outcome.code(3);
    outcome.hit(LimitHit::Output);
    assert_eq!(outcome.ended.written, [30_000_000, 20_000_000]);
    assert_eq!(
        outcome.ended.kept.each_ref().map(Vec::len),
        [100_000, 100_000]
    );
}

#[test]
fn escape_endless_loop() {
    let script = "trap '' TERM INT HUP; while :; do :; done";
    let begin = Instant::now();
    let outcome = jar()
        .limit(|limits| limits.wall = Duration::from_millis(700))
        .sh(script);
    outcome.hit(LimitHit::Time);
    assert_eq!(outcome.ended.cause, Cause::TimeOver);
    assert!(outcome.ended.duration >= Duration::from_millis(700));
    // The grace follows; the margin is for a busy machine.
    assert!(begin.elapsed() < Duration::from_secs(20), "{outcome:?}");
}

#[test]
fn escape_processor_hog() {
    let script = "import time\n\
        begin, used = time.monotonic(), time.process_time()\n\
        while time.monotonic() - begin < 2: pass\n\
        print(time.process_time() - used)";
    let outcome = jar()
        .limit(|limits| limits.cpu_millis = Some(200))
        .python(script);
    if !has_groups(&shared()) {
        assert!(!outcome.out.is_empty(), "{outcome:?}");
        return;
    }
    let used: f64 = outcome.out.trim().parse().unwrap();
    assert!(used < 1.0, "{used} s of 2 at a fifth");
    outcome.hit(LimitHit::Cpu);
}

#[test]
fn escape_limit_raising() {
    let script = "import resource\n\
        for name, limit in (('files', resource.RLIMIT_NOFILE), ('core', resource.RLIMIT_CORE), ('locked', resource.RLIMIT_MEMLOCK)):\n    \
            soft, hard = resource.getrlimit(limit)\n    \
            try:\n        \
                resource.setrlimit(limit, (hard + 1, hard + 1)); print(name, 'OPEN')\n    \
            except ValueError: print(name, hard)\n\
        attempt('nice', lambda: os.nice(-5))\n\
        attempt('realtime', lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))\n\
        attempt('score', lambda: open('/proc/self/oom_score_adj', 'w').write('-1000'))\n\
        held = []\n\
        attempt('open', lambda: [held.append(open('/dev/null')) for _ in range(2000)])";
    jar().python(script).says(
        "files 1024\ncore 0\nlocked 65536\nnice EPERM\nrealtime EPERM\nscore EACCES\nopen EMFILE",
    );
}

/// Whatever takes room of the host's disk by way of one file that may be written, and by way of
/// the directory it is in.
const FILL: &str = r#"
import fcntl, mmap, resource, signal, struct
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
path, big = '/srv/db/work.db', 64 << 20
file = os.open(path, os.O_RDWR)
def reserve(mode, at, size):
    if libc.fallocate(file, mode, at, size): raise OSError(ctypes.get_errno(), '')
def ask(number, *parts):
    fcntl.ioctl(file, number, struct.pack('hhxxxxqqiI4I', 0, 0, 0, big, 0, 0, 0, 0, 0, 0))
source = os.open('/tmp/source', os.O_RDWR | os.O_CREAT)
os.truncate(source, 1 << 20)
def piped():
    ours, theirs = os.pipe()
    os.write(theirs, b'x' * 4096)
    os.splice(ours, file, 4096, offset_dst=big)
def sent():
    os.lseek(file, big, 0)
    os.sendfile(file, source, 0, 4096)
def appended():
    end = os.open(path, os.O_WRONLY | os.O_APPEND)
    while True: os.write(end, b'x' * (1 << 20))
def mapped():
    with mmap.mmap(file, os.fstat(file).st_size) as memory:
        for at in range(0, len(memory), 4096): memory[at] = 1
def named(call, name):
    if call(name, b'user.a', b'x' * 1000, 1000, 0): raise OSError(ctypes.get_errno(), '')
def attributes():
    for number in range(10000): os.setxattr(path, 'user.%d' % number, b'x' * 3000)
attempt('hole', lambda: os.pwrite(file, b'x', big))
attempt('truncate', lambda: os.truncate(path, big))
attempt('ftruncate', lambda: os.ftruncate(file, 1 << 40))
attempt('grow', lambda: reserve(0, 0, big))
for mode in (0x01, 0x08, 0x10, 0x11, 0x20, 0x41):
    attempt('reserve %#x' % mode, lambda: reserve(mode, 1 << 20, big))
for number in (0x40305828, 0x4030582a, 0x40305839, 0x401c5820, 0x40086602, 0x4020940d, 0x40049409):
    attempt('ioctl %#x' % number, lambda: ask(number))
attempt('splice', piped)
attempt('sendfile', sent)
attempt('copy', lambda: os.copy_file_range(file, file, 4096, 0, big))
attempt('attributes', attributes)
attempt('lsetxattr', lambda: named(libc.lsetxattr, path.encode()))
attempt('fsetxattr', lambda: named(libc.fsetxattr, file))
try: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2); print('limit OPEN')
except ValueError: print('limit held')
attempt('append', appended)
mapped()
print('size', os.fstat(file).st_size)
"#;

/// The file grows by the disk limit at most, and takes no room beyond its size.
#[test]
fn escape_written_file() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work.db");
    let most = (1 << 20) + (8 << 20) + (1 << 20);
    let wanted = "hole EFBIG\ntruncate EFBIG\nftruncate EFBIG\ngrow EFBIG\n\
        reserve 0x1 ENOTSUP\nreserve 0x8 ENOTSUP\nreserve 0x10 ENOTSUP\n\
        reserve 0x11 ENOTSUP\nreserve 0x20 ENOTSUP\nreserve 0x41 ENOTSUP\n\
        ioctl 0x40305828 ENOTTY\nioctl 0x4030582a ENOTTY\nioctl 0x40305839 ENOTTY\n\
        ioctl 0x401c5820 ENOTTY\nioctl 0x40086602 ENOTTY\nioctl 0x4020940d ENOTTY\n\
        ioctl 0x40049409 ENOTTY\nsplice EFBIG\nsendfile EFBIG\ncopy EFBIG\n\
        attributes ENOTSUP\nlsetxattr ENOTSUP\nfsetxattr ENOTSUP\n\
        limit held\nappend EFBIG\n";
    let jar = |in_place: bool| {
        std::fs::write(&work, vec![b'x'; 1 << 20]).unwrap();
        jar()
            .write(&work, "/srv/db", in_place)
            .limit(|limits| limits.disk_bytes = 8 << 20)
    };
    let outcome = jar(true).python(FILL);
    outcome.says(&format!("{wanted}size {most}"));
    outcome.hit(LimitHit::Disk);
    let data = std::fs::metadata(&work).unwrap();
    assert_eq!(data.len(), most);
    // A file system's own tables take a little.
    assert!(data.blocks() * 512 <= most + (64 << 10), "{data:?}");
    // Where the file system would take more than the size, the file is written in memory.
    // What is refused by a signal is told, too, when the file never got that big.
    let outcome = jar(true).run(&["/usr/bin/truncate", "-s", "1T", "/srv/db/work.db"]);
    outcome.hit(LimitHit::Disk);
    assert_eq!(std::fs::metadata(&work).unwrap().len(), 1 << 20);
    let outcome = jar(false).python(FILL);
    outcome.hit(LimitHit::Disk);
    let data = std::fs::metadata(&work).unwrap();
    assert_eq!(data.len(), 1 << 20);
    // One that does not fit is refused before anything runs.
    std::fs::write(&work, vec![b'x'; 9 << 20]).unwrap();
    let big = crate::support::jar().write(&work, "/srv/db", false);
    let big = big.limit(|limits| limits.disk_bytes = 8 << 20);
    let refused = big.start().map(drop).unwrap_err().to_string();
    assert!(refused.contains("BELLJAR_STATE"), "{refused}");
}

/// The file's directory is the sandbox's own: nothing that is made there is on the host's disk.
#[test]
fn escape_written_directory() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work.db");
    std::fs::write(&work, "original").unwrap();
    let fill = "here = ['/srv/db', os.path.dirname(os.path.realpath('/srv/db/work.db'))]\n\
        def many(at): [os.mknod('%s/%d' % (at, n), 0o100600) for n in range(3000)]\n\
        def deep(at):\n    \
            os.chdir(at)\n    \
            while True: os.mkdir('d'); os.chdir('d')\n\
        def unseen(at):\n    \
            kept.append(open(at + '/unseen', 'wb', 0)); os.unlink(at + '/unseen')\n    \
            while True: kept[-1].write(b'x' * (1 << 20))\n\
        def links(at): [os.link('/srv/db/0', '%s/link%d' % (at, n)) for n in range(3000)]\n\
        def attributes(at):\n    \
            for n in range(100000): os.setxattr(at, 'user.%d' % n, b'x' * 3000)\n\
        kept = []\n\
        for at in here:\n    \
            for deed in (unseen, many, links, deep, attributes):\n        \
                try: deed(at); print(deed.__name__, 'OPEN')\n        \
                except OSError as error: print(deed.__name__, errno.errorcode[error.errno])";
    let run = |in_place: bool, script: &str| {
        let jar = jar().write(&work, "/srv/db", in_place);
        let jar = jar.limit(|limits| limits.disk_bytes = 8 << 20);
        jar.limit(|limits| limits.inodes = 1000).python(script)
    };
    for in_place in [true, false] {
        let outcome = run(in_place, fill);
        assert!(!outcome.out.contains("OPEN"), "{outcome:?}");
        assert_eq!(names(folder.path()), ["work.db"]);
    }
    let tricks = "at = '/srv/db/in-place'\n\
        attempt('link', lambda: os.link(at + '/work.db', at + '/second'))\n\
        attempt('rename', lambda: os.rename(at + '/work.db', at + '/second'))\n\
        attempt('remove', lambda: os.unlink(at + '/work.db'))\n\
        open(at + '/new', 'w').write('new')\n\
        attempt('replace', lambda: os.replace(at + '/new', at + '/work.db'))\n\
        attempt('away', lambda: os.rename(at, '/srv/db/other'))\n\
        attempt('up', lambda: os.rename('/srv/db', '/srv/other'))\n\
        attempt('name', lambda: os.replace(at + '/new', '/srv/db/work.db'))";
    run(true, tricks).says(
        "link EXDEV\nrename EBUSY\nremove EBUSY\nreplace EBUSY\naway EBUSY\nup EBUSY\nname EXDEV",
    );
    assert_eq!(names(folder.path()), ["work.db"]);
    assert_eq!(std::fs::read_to_string(&work).unwrap(), "original");
}

fn names(folder: &std::path::Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}
