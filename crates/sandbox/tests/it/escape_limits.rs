//! Attacks on the limits.

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
        begin = time.monotonic()\n\
        while time.monotonic() - begin < 2: pass\n\
        print(time.process_time())";
    let outcome = jar()
        .limit(|limits| limits.cpu_millis = Some(100))
        .python(script);
    if !has_groups(&shared()) {
        assert!(!outcome.out.is_empty(), "{outcome:?}");
        return;
    }
    let used: f64 = outcome.out.trim().parse().unwrap();
    assert!(used < 1.0, "{used} s of 2 at a tenth");
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
