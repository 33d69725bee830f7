//! Attacks on other processes, inside and outside.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;
use std::time::Duration;

use belljar_base::frame::Tell;

use crate::support::{assert_gone, jar, outside, processes_with};

/// A process of the host that can be signalled, and is ended with the test.
struct Outsider(std::process::Child);

impl Outsider {
    fn new() -> Self {
        Self(Command::new("/bin/sleep").arg("60").spawn().unwrap())
    }

    fn alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn escape_signal() {
    let mut outsider = Outsider::new();
    let id = outsider.0.id();
    // Inside few processes exist, so that the outsider's number names none.
    let script = format!(
        "attempt('kill', lambda: os.kill({id}, 9))\n\
         attempt('group', lambda: os.killpg({id}, 9))\n\
         attempt('pidfd', lambda: os.pidfd_open({id}))\n\
         print(sorted(int(name) for name in os.listdir('/proc') if name.isdigit()))\n\
         attempt('all', lambda: os.kill(-1, 0))"
    );
    let probe = format!("attempt('kill', lambda: os.kill({id}, 0))");
    assert_eq!(outside(&probe), "kill OPEN\n");
    let outcome = jar().python(&script);
    outcome.says("kill ESRCH\ngroup ESRCH\npidfd ESRCH\n[1, 2]\nall ESRCH");
    assert!(outsider.alive());
    jar().python("os.kill(-1, 9)");
    assert!(outsider.alive());
}

#[test]
fn escape_ptrace() {
    let outsider = Outsider::new();
    let id = outsider.0.id();
    let script = format!(
        "for name, pid in (('outsider', {id}), ('guest', 1)):\n    \
             call(name, 101, 16, pid, 0, 0)\n    \
             call(name, 101, 0x4206, pid, 0, 0)\n    \
             local = (ctypes.c_uint64 * 2)(0, 8); remote = (ctypes.c_uint64 * 2)(0x200000, 8)\n    \
             call(name, 310, pid, local, 1, remote, 1, 0)\n    \
             for file in ('mem', 'environ', 'maps', 'auxv'):\n        \
                 attempt(file, lambda: open('/proc/%d/%s' % (pid, file)).read(1))\n\
         call('pidfd_getfd', 438, os.pidfd_open(1), 3, 0)\n\
         attempt('channel', lambda: os.open('/proc/1/fd/3', 2))"
    );
    let outcome = jar().python(&script);
    assert!(!outcome.out.contains("OPEN"), "{outcome:?}");
    assert!(
        outcome.out.contains("guest EPERM") && outcome.out.contains("outsider ESRCH"),
        "{outcome:?}"
    );
    assert!(
        outcome.out.ends_with("pidfd_getfd EPERM\nchannel EACCES\n"),
        "{outcome:?}"
    );
}

#[test]
fn escape_guest() {
    let script = "import signal\n\
        for number in list(range(1, 32)) + [34, 40, 64]: os.kill(1, number)\n\
        attempt('affinity', lambda: os.sched_setaffinity(1, {0}))\n\
        attempt('limits', lambda: __import__('resource').prlimit(1, 7, (1, 1)))\n\
        for number in range(3, 20):\n    \
            try: os.write(number, b'\\x06\\x00\\x00\\x00\\x03\\x01\\x00\\x00'); print('OPEN', number)\n    \
            except OSError: pass\n\
        print('alive')";
    let jar = jar();
    let mut sandbox = jar.start().unwrap();
    for _round in 0..2 {
        let script = format!("{}\n{script}", crate::support::PRELUDE);
        let command = jar.command(&["/usr/bin/python3", "-I", "-c", &script]);
        let stdio = sandbox.execute(&command).unwrap();
        drop(stdio.stdin);
        let out = read_all(stdio.stdout.unwrap());
        // Processor affinity is no power over the guest; its limits are.
        assert!(out.ends_with("limits EPERM\nalive\n"), "{out}");
        let mut told = Vec::new();
        while !matches!(told.last(), Some(Tell::Exited { .. })) {
            told.extend(sandbox.next(Duration::from_secs(10)).unwrap());
        }
    }
    sandbox.end().unwrap();
}

fn read_all(descriptor: std::os::fd::OwnedFd) -> String {
    let flags = rustix::fs::fcntl_getfl(&descriptor).unwrap();
    rustix::fs::fcntl_setfl(&descriptor, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
    let mut text = String::new();
    fs::File::from(descriptor)
        .read_to_string(&mut text)
        .unwrap();
    text
}

#[test]
fn escape_ipc() {
    let script = "for name in ('ipc', 'mnt', 'net', 'pid', 'user', 'uts', 'cgroup', 'time'):\n    \
            print(name, os.readlink('/proc/self/ns/' + name))";
    let (inside, host) = (jar().python(script).out, outside(script));
    for (inside, host) in inside.lines().zip(host.lines()) {
        assert_ne!(inside, host);
    }
    assert_eq!(inside.lines().count(), 8);
    // A segment that the host has is not there.
    let make = "print(libc.shmget(0x62656c6c, 4096, 0o1666))";
    let remove = "print(libc.shmctl(libc.shmget(0x62656c6c, 0, 0), 0, None))";
    assert_ne!(outside(make).trim(), "-1");
    let outcome = jar()
        .python("print(libc.shmget(0x62656c6c, 0, 0), len(open('/proc/sysvipc/shm').readlines()))");
    assert_eq!(outside(remove).trim(), "0");
    outcome.says("-1 1");
    // Nor do sandboxes share their ids, where these are shifted; two of many may by chance.
    let jars = [jar(), jar(), jar()];
    let alive = jars.each_ref().map(|jar| jar.start().unwrap());
    let shifts = alive.each_ref().map(|sandbox| sandbox.id_shift());
    let same = shifts.iter().all(|shift| *shift == shifts[0]);
    assert_eq!(same, shifts[0].is_none(), "{shifts:?}");
}

#[test]
fn escape_abstract_socket() {
    let name = format!("belljar-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let script =
        format!("attempt('connect', lambda: socket.socket(socket.AF_UNIX).connect('\\0{name}'))");
    assert_eq!(outside(&script), "connect OPEN\n");
    jar().python(&script).says("connect ECONNREFUSED");
}

#[test]
fn escape_host_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let script = format!(
        "for path in ('{}', '/var/run/docker.sock', '/run/docker.sock', '/run/containerd/containerd.sock', '/run/dbus/system_bus_socket', '/tmp/.X11-unix/X0'):\n    \
             attempt('connect', lambda: socket.socket(socket.AF_UNIX).connect(path))\n\
         print(os.listdir('/run'), os.path.exists('/run/user'), [name for name in os.environ if name.endswith(('_SOCK', '_ADDRESS', 'DISPLAY'))])",
        path.display()
    );
    assert!(outside(&script).starts_with("connect OPEN\n"));
    jar().python(&script).says(&format!(
        "{}['lock'] False []",
        "connect ENOENT\n".repeat(6)
    ));
}

#[test]
fn escape_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "socket.setdefaulttimeout(2)\n\
         attempt('loopback', lambda: socket.create_connection(('127.0.0.1', {port})))\n\
         attempt('loopback6', lambda: socket.create_connection(('::1', {port})))"
    );
    assert!(outside(&script).starts_with("loopback OPEN\n"));
    let script = format!(
        "{script}\n\
         attempt('address', lambda: socket.create_connection(('1.1.1.1', 53)))\n\
         attempt('metadata', lambda: socket.create_connection(('169.254.169.254', 80)))\n\
         attempt('datagram', lambda: socket.socket(2, 2).sendto(b'x', ('8.8.8.8', 53)))\n\
         server = socket.create_server(('127.0.0.1', 0))\n\
         attempt('own', lambda: socket.create_connection(server.getsockname()))\n\
         print(len(open('/proc/net/route').readlines()))"
    );
    jar().python(&script).says(
        "loopback ECONNREFUSED\nloopback6 ECONNREFUSED\naddress ENETUNREACH\nmetadata ENETUNREACH\n\
         datagram ENETUNREACH\nown OPEN\n1",
    );
}

#[test]
fn escape_environment() {
    let mut jar = jar();
    jar.environment.push(("GIVEN".into(), "yes".into()));
    let outcome = jar.run(&["/usr/bin/env"]);
    outcome.says("PATH=/usr/bin:/bin:/usr/sbin:/sbin\nGIVEN=yes");
    crate::support::jar()
        .sh("cat /proc/1/environ /proc/1/cmdline 2>/dev/null | tr '\\0' '\\n'")
        .says("belljar-guest");
}

#[test]
fn escape_huge_arguments() {
    let jar = jar();
    let mut sandbox = jar.start().unwrap();
    let huge = "x".repeat(3 << 20);
    let refused = sandbox
        .execute(&jar.command(&["/bin/echo", &huge]))
        .unwrap_err();
    let wanted = "arguments and environment have 3145774 bytes, at most 2097152 can be passed";
    assert_eq!(refused.to_string(), wanted);
    // One argument over the kernel's own bound, and a NUL, are answers too.
    let many = "x".repeat(200 << 10);
    for argument in [many.as_str(), "a\0b"] {
        sandbox
            .execute(&jar.command(&["/bin/echo", argument]))
            .unwrap();
        let told = sandbox.next(Duration::from_secs(10)).unwrap();
        assert!(matches!(told, Some(Tell::Failed { .. })), "{told:?}");
    }
    let stdio = sandbox
        .execute(&jar.command(&["/bin/echo", "still here"]))
        .unwrap();
    assert_eq!(read_all(stdio.stdout.unwrap()), "still here\n");
    let script = "import resource\n\
        attempt('inside', lambda: os.execv('/bin/true', ['x' * 100000] * 1000))";
    crate::support::jar().python(script).says("inside E2BIG");
}

#[test]
fn escape_daemon() {
    let mark = format!("belljar-daemon-{}", std::process::id());
    let script = format!(
        "import signal, time\n\
         for number in set(range(1, 65)) - {{17}}:\n    \
             try: signal.signal(number, signal.SIG_IGN)\n    \
             except (OSError, ValueError): pass\n\
         for _ in range(3):\n    \
             if os.fork() == 0:\n        \
                 os.setsid()\n        \
                 if os.fork() == 0:\n            \
                     os.execv('/bin/sh', ['sh', '-c', 'while :; do sleep 1; done # {mark}'])\n        \
                 os._exit(0)\n    \
             os.wait()\n\
         time.sleep(0.3)\n\
         print('left')"
    );
    let jar = jar();
    let outcome = jar.python(&script);
    outcome.says("left");
    assert_eq!(processes_with(&mark), Vec::<String>::new());
}

#[test]
fn escape_output_pipe() {
    // A command that takes from the other side of its own pipes must not stop our loop.
    let script = "import threading, time\n\
        def take():\n    \
            file = os.open('/proc/self/fd/1', os.O_RDONLY)\n    \
            while True: os.read(file, 1)\n\
        def fill():\n    \
            file = os.open('/proc/self/fd/0', os.O_WRONLY)\n    \
            while True: os.write(file, b'x' * 4096)\n\
        threads = [threading.Thread(target=work) for work in (take, take, fill)]\n\
        for thread in threads: thread.start()\n\
        while True: os.write(1, b'x')";
    let mut jar = jar().limit(|limits| limits.wall = Duration::from_secs(1));
    let (input, mut ours) = std::io::pipe().unwrap();
    ours.write_all(&[b'x'; 60_000]).unwrap();
    jar.stdin = Some(input.into());
    let begin = std::time::Instant::now();
    let outcome = jar.python(script);
    outcome.hit(belljar_sandbox::LimitHit::Time);
    assert!(begin.elapsed() < Duration::from_secs(20), "{outcome:?}");
}

#[test]
fn escape_killed_process_tree() {
    // The end of a sandbox that is only dropped.
    let mark = format!("belljar-dropped-{}", std::process::id());
    let jar = jar();
    let mut sandbox = jar.start().unwrap();
    let script = format!("setsid sleep 99 & setsid sh -c 'sleep 98; : {mark}' & echo up; wait");
    let stdio = sandbox
        .execute(&jar.command(&["/bin/sh", "-c", &script]))
        .unwrap();
    let mut word = [0; 3];
    let output = stdio.stdout.unwrap();
    let flags = rustix::fs::fcntl_getfl(&output).unwrap();
    rustix::fs::fcntl_setfl(&output, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
    fs::File::from(output).read_exact(&mut word).unwrap();
    assert!(!processes_with(&mark).is_empty());
    drop(sandbox);
    assert_gone(&mark);
}
