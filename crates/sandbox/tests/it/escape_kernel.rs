//! Attacks on the kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{jar, outside};

#[test]
fn escape_capabilities() {
    let script = "import re\n\
        status = open('/proc/self/status').read()\n\
        print(re.findall(r'Cap\\w+:\\s+(\\w+)', status), re.findall(r'NoNewPrivs:\\s+(\\d)', status))\n\
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)\n\
        call('capset', 126, header, (ctypes.c_uint32 * 6)(1 << 21, 1 << 21, 0, 0, 0, 0))\n\
        call('ambient', 157, 47, 2, 21, 0, 0)\n\
        call('securebits', 157, 28, 0, 0, 0, 0)\n\
        print(answer(105, 4711) in ('EPERM', 'EINVAL'), answer(106, 4711) in ('EPERM', 'EINVAL'), flush=True)\n\
        os.execv('/bin/sh', ['sh', '-c', 'grep CapEff /proc/self/status'])";
    let none = "'0000000000000000'";
    jar().python(script).says(&format!(
        "[{none}, {none}, {none}, {none}, {none}] ['1']\ncapset EPERM\nambient EPERM\n\
         securebits EPERM\nTrue True\nCapEff:\t0000000000000000"
    ));
}

#[test]
fn escape_setuid() {
    // A set-user-ID program of the host, shown inside, and one made at home.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("id");
    fs::copy("/usr/bin/id", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o6755)).unwrap();
    let script = format!(
        "cp /usr/bin/id /tmp/id; chmod 6755 /tmp/id; stat -c %a {0} /tmp/id; \
         for id in /tmp/id {0}; do [ \"$($id)\" = \"$(id)\" ] && echo same; done; \
         grep -vE ' [^ ]*nosuid| - devtmpfs ' /proc/self/mountinfo | wc -l; \
         su -c id </dev/null >/dev/null 2>&1 && [ $(id -u) != 0 ] && echo OPEN; true",
        program.display()
    );
    let outcome = jar().read(folder.path()).sh(&script);
    outcome.says("6755\n6755\nsame\nsame\n0");
}

#[test]
fn escape_device_node() {
    let script = "import stat\n\
        for place in ('/tmp', '/dev/shm', os.getcwd(), '/usr/local'):\n    \
            attempt('disk', lambda: os.mknod(place + '/x', stat.S_IFBLK | 0o600, os.makedev(254, 0)))\n    \
            attempt('memory', lambda: os.mknod(place + '/x', stat.S_IFCHR | 0o600, os.makedev(1, 1)))\n\
        os.mknod('/tmp/pipe', stat.S_IFIFO | 0o600)\n\
        opened = [line for line in open('/proc/self/mountinfo') if 'nodev' not in line.split()[5]]\n\
        print(sorted(line.split()[4] for line in opened))";
    let work = tempfile::tempdir().unwrap();
    let refused = "disk EACCES\nmemory EACCES\n".repeat(4);
    let shown = tempfile::tempdir().unwrap();
    let jar = jar().branch(work.path()).read(shown.path());
    let outcome = jar.python(script);
    assert!(outcome.out.starts_with(&refused), "{outcome:?}");
    let rest = outcome
        .out
        .get(refused.len()..)
        .unwrap_or_default()
        .replace(['[', ']', '\'', ','], "");
    // Only single devices of the host, and the terminals, are on mounts that allow devices.
    let devices = ["null", "zero", "full", "random", "urandom", "tty", "pts"];
    for mount in rest.split_whitespace() {
        let device = mount.strip_prefix("/dev/");
        let fine = device.is_none_or(|name| devices.contains(&name));
        let place = mount == "/dev" || device.is_some() || mount.starts_with("/proc/");
        assert!(fine && place, "{mount} of {outcome:?}");
    }
}

#[test]
fn escape_device_open() {
    let script = "print(*sorted(os.listdir('/dev')))\n\
        for name in ('mem', 'kmsg', 'fuse', 'kvm', 'vda', 'sda', 'net/tun', 'loop-control', 'mapper/control'):\n    \
            attempt(name, lambda: open('/dev/' + name))\n\
        import glob\n\
        found = [path for path in glob.glob('/proc/*/fd/*') if os.path.exists(path) and os.path.realpath(path).startswith('/dev/sd')]\n\
        print(found, open('/dev/zero', 'rb').read(2), len(open('/dev/urandom', 'rb').read(9)))";
    jar().python(script).says(
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero\nmem ENOENT\n\
         kmsg ENOENT\nfuse ENOENT\nkvm ENOENT\nvda ENOENT\nsda ENOENT\nnet/tun ENOENT\n\
         loop-control ENOENT\nmapper/control ENOENT\n[] b'\\x00\\x00' 9",
    );
}

#[test]
fn escape_core_pattern() {
    let before = fs::read("/proc/sys/kernel/core_pattern").unwrap();
    let script = "for knob in ('core_pattern', 'modprobe', 'hotplug', 'core_pipe_limit', 'hostname'):\n    \
            attempt(knob, lambda: open('/proc/sys/kernel/' + knob, 'w')) if os.path.exists('/proc/sys/kernel/' + knob) else None\n\
        attempt('binfmt', lambda: open('/proc/sys/fs/binfmt_misc/register', 'w'))\n\
        import resource, signal\n\
        print(resource.getrlimit(resource.RLIMIT_CORE), flush=True)\n\
        os.kill(os.getpid(), signal.SIGSEGV)";
    let outcome = jar().python(script);
    assert!(!outcome.out.contains("OPEN"), "{outcome:?}");
    assert!(
        outcome.out.contains("core_pattern E") && outcome.out.contains("(0, 0)"),
        "{outcome:?}"
    );
    assert_eq!(before, fs::read("/proc/sys/kernel/core_pattern").unwrap());
}

#[test]
fn escape_proc_knobs() {
    let script = "def text(path):\n    \
            try: return open(path, 'rb').read(1)\n    \
            except OSError: return b''\n\
        for name in ('kcore', 'keys', 'timer_list', 'latency_stats', 'kallsyms', 'vmallocinfo', 'kmsg', 'slabinfo', 'kpagecount'):\n    \
            if text('/proc/' + name): print(name, 'OPEN')\n\
        for name in ('acpi', 'asound', 'bus', 'fs', 'irq', 'scsi'):\n    \
            if os.path.exists('/proc/' + name) and os.listdir('/proc/' + name): print(name, 'OPEN')\n\
        def knob(name): return os.path.exists('/proc/' + name)\n\
        for name in filter(knob, ('sysrq-trigger', 'kcore', 'keys', 'timer_list', 'latency_stats', 'kallsyms', 'vmallocinfo')):\n    \
            if os.stat('/proc/' + name).st_rdev != os.makedev(1, 3): print(name, 'OPEN')\n\
        for name in filter(knob, ('sys', 'acpi', 'asound', 'bus', 'fs', 'irq', 'scsi')):\n    \
            if not os.statvfs('/proc/' + name).f_flag & os.ST_RDONLY: print(name, 'OPEN')\n\
        written = []\n\
        for folder, _, names in os.walk('/proc'):\n    \
            if '/fd' in folder or folder.startswith('/proc/self') or folder.startswith('/proc/thread'): continue\n    \
            for name in names:\n        \
                try:\n            \
                    os.close(os.open(folder + '/' + name, os.O_WRONLY | os.O_NONBLOCK))\n            \
                    if os.stat(folder + '/' + name).st_rdev != os.makedev(1, 3): written.append(folder + '/' + name)\n        \
                except OSError: pass\n\
        print(written)";
    let outcome = jar().python(script);
    outcome.says("[]");
}

#[test]
fn escape_sysfs() {
    let script = "for path in ('/sys/kernel', '/sys/fs/cgroup', '/sys/kernel/debug', '/sys/firmware/efi/efivars', '/sys/class'):\n    \
            attempt(path, lambda: os.listdir(path))\n\
        kinds = {line.split(' - ')[1].split()[0] for line in open('/proc/self/mountinfo')}\n\
        print(sorted(kinds - {'overlay', 'proc', 'tmpfs', 'devtmpfs', 'devpts'}))";
    jar().python(script).says(
        "/sys/kernel ENOENT\n/sys/fs/cgroup ENOENT\n/sys/kernel/debug ENOENT\n\
         /sys/firmware/efi/efivars ENOENT\n/sys/class ENOENT\n[]",
    );
}

#[test]
fn escape_cgroup() {
    let script = "print({line.strip().split(':', 2)[2] for line in open('/proc/self/cgroup') if any(name in line for name in ('memory', 'pids', 'cpu:'))} - {'/'})\n\
        call('v1', 165, b'x', b'/tmp', b'cgroup', 0, b'memory')\n\
        call('v2', 165, b'x', b'/tmp', b'cgroup2', 0, None)\n\
        print([line for line in open('/proc/self/mountinfo') if ' - cgroup' in line])";
    let outcome = jar().python(script);
    if crate::support::has_groups(&crate::support::shared()) {
        outcome.says("set()\nv1 EPERM\nv2 EPERM\n[]");
    } else {
        assert!(
            outcome.out.ends_with("v1 EPERM\nv2 EPERM\n[]\n"),
            "{outcome:?}"
        );
    }
}

#[test]
fn escape_user_namespace() {
    let script = "import struct\n\
        flags = {'user': 0x10000000, 'mount': 0x20000, 'pid': 0x20000000, 'net': 0x40000000, 'ipc': 0x8000000, 'uts': 0x4000000, 'cgroup': 0x2000000, 'time': 0x80}\n\
        for name, flag in flags.items():\n    \
            print(name, answer(272, flag), answer(272, flag | 0x10000000), flush=True)\n    \
            if name != 'time': print('clone', answer(56, flag | 17, 0, 0, 0, 0), flush=True)\n\
        call('clone3', 435, struct.pack('11Q', 0x10000000, *[0] * 10), 88)\n\
        call('setns', 308, os.open('/proc/self/ns/user', 0), 0)\n\
        call('files', 272, 0x400)";
    let pair = "EPERM EPERM\nclone EPERM\n";
    let names = ["user", "mount", "pid", "net", "ipc", "uts", "cgroup"];
    let pairs: String = names.iter().map(|name| format!("{name} {pair}")).collect();
    jar().python(script).says(&format!(
        "{pairs}time EPERM EPERM\nclone3 ENOSYS\nsetns EPERM\nfiles OPEN"
    ));
}

#[test]
fn escape_io_uring() {
    let script = "for number in (425, 426, 427): call('io_uring', number, 8, ctypes.create_string_buffer(256), 0)\n\
        call('aio', 206, 8, ctypes.byref(ctypes.c_ulong()))";
    jar()
        .python(script)
        .says("io_uring ENOSYS\nio_uring ENOSYS\nio_uring ENOSYS\naio ENOSYS");
}

#[test]
fn escape_keyring() {
    let script = "call('add', 248, b'user', b'belljar', b'x', 1, -3)\n\
        call('request', 249, b'user', b'belljar', None, -3)\n\
        call('session', 250, 0, -3, 1)\n\
        call('join', 250, 1, None)\n\
        print(open('/proc/keys').read())";
    assert!(outside(script).contains("session OPEN"));
    jar()
        .python(script)
        .says("add EPERM\nrequest EPERM\nsession EPERM\njoin EPERM");
}

#[test]
fn escape_kernel_interfaces() {
    let script = "call('bpf', 321, 0, ctypes.create_string_buffer(128), 128)\n\
        call('perf', 298, ctypes.create_string_buffer(128), 0, -1, -1, 0)\n\
        call('userfaultfd', 323, 1)\n\
        call('fanotify', 300, 0, 0)\n\
        call('iopl', 172, 3)\n\
        call('ioperm', 173, 0x80, 1, 1)\n\
        call('modify_ldt', 154, 0, ctypes.create_string_buffer(64), 64)\n\
        call('quotactl', 179, 0, None, 0, None)\n\
        call('syslog', 103, 3, ctypes.create_string_buffer(64), 64)\n\
        call('lsm', 461, ctypes.create_string_buffer(64), ctypes.byref(ctypes.c_uint32(64)), 0)\n\
        call('personality', 135, 0x0400000)\n\
        call('unknown', 9999)";
    jar().python(script).says(
        "bpf EPERM\nperf EPERM\nuserfaultfd EPERM\nfanotify EPERM\niopl EPERM\nioperm EPERM\n\
         modify_ldt EPERM\nquotactl EPERM\nsyslog EPERM\nlsm ENOSYS\npersonality EPERM\nunknown ENOSYS",
    );
}

#[test]
fn escape_kernel_load() {
    let script = "call('init_module', 175, b'', 0, b'')\n\
        call('finit_module', 313, 0, b'', 0)\n\
        call('delete_module', 176, b'belljar_none', 0)\n\
        call('kexec', 246, 0, 0, None, 0)\n\
        call('kexec_file', 320, -1, -1, 0, b'', 0)\n\
        call('reboot', 169, 0, 0, 0, None)\n\
        call('swapon', 167, b'/tmp/none', 0)\n\
        call('acct', 163, b'/tmp/none')";
    jar().python(script).says(
        "init_module EPERM\nfinit_module EPERM\ndelete_module EPERM\nkexec EPERM\n\
         kexec_file EPERM\nreboot EPERM\nswapon EPERM\nacct EPERM",
    );
}

#[test]
fn escape_foreign_calls() {
    // x32's numbers, then the entry of 32-bit programs: it ends the process with SIGSYS.
    let script = "call('x32', 0x40000000 | 39)\n\
        call('x32 mount', 0x40000000 | 165)\n\
        import mmap\n\
        if os.uname().machine == 'x86_64':\n    \
            code = mmap.mmap(-1, 4096, prot=7)\n    \
            code.write(bytes([0x53, 0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0x5b, 0xc3]))\n    \
            child = os.fork()\n    \
            if not child:\n        \
                ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()\n        \
                os._exit(0)\n    \
            print(os.waitpid(child, 0)[1] & 127)";
    jar()
        .python(script)
        .says("x32 ENOSYS\nx32 mount ENOSYS\n31");
}

#[test]
fn escape_socket_families() {
    let script = "refused = set()\n\
        for family in range(1, 46):\n    \
            for kind in (1, 2, 3, 5):\n        \
                try: socket.socket(family, kind, 0).close(); refused.add((family, kind))\n        \
                except OSError: pass\n\
        print(sorted(refused))\n\
        for protocol in (4, 6, 9, 12, 15, 16, 21):\n    \
            attempt(protocol, lambda: socket.socket(16, 3, protocol))\n\
        for family in (16, 17, 30, 38, 40):\n    \
            pair = (ctypes.c_int * 2)()\n    \
            print('pair', answer(53, family, 2, 0, pair))\n\
        attempt('raw', lambda: socket.socket(2, 3, 1))\n\
        print(socket.if_nameindex())";
    let refused = "EAFNOSUPPORT";
    let netlink: String = [4, 6, 9, 12, 15, 16, 21]
        .iter()
        .map(|one| format!("{one} {refused}\n"))
        .collect();
    let pairs = format!("pair {refused}\n").repeat(5);
    let outcome = jar().python(script);
    outcome.says(&format!(
        "[(1, 1), (1, 2), (1, 3), (1, 5), (2, 1), (2, 2), (10, 1), (10, 2), (16, 2), (16, 3)]\n\
         {netlink}{pairs}raw EPERM\n[(1, 'lo')]"
    ));
}

#[test]
fn escape_terminal_injection() {
    let script = "import fcntl\n\
        attempt('push', lambda: fcntl.ioctl(0, 0x5412, b'x'))\n\
        attempt('high', lambda: libc.syscall(16, 0, ctypes.c_ulong(0xffffffff00005412), b'x') == 0 or os.close(-1))\n\
        attempt('console', lambda: fcntl.ioctl(0, 0x541C, b'\\x03'))\n\
        tty = os.open('/dev/tty', os.O_RDWR)\n\
        attempt('tty', lambda: fcntl.ioctl(tty, 0x5412, b'x'))\n\
        print(os.isatty(0), os.ttyname(0), os.getsid(0) == os.getpid(), os.getsid(1))";
    let mut jar = jar();
    jar.terminal = Some((24, 80));
    let outcome = jar.python(script);
    let lines: Vec<_> = outcome.out.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "push EPERM",
            "high EBADF",
            "console EPERM",
            "tty EPERM",
            // The guest has no part in the session of the terminal that started us.
            "True /dev/pts/0 True 1"
        ],
        "{outcome:?}"
    );
}

#[test]
fn escape_memfd_exec() {
    let script = "data = open('/usr/bin/cat', 'rb').read()\n\
        file = os.memfd_create('x')\n\
        os.write(file, data)\n\
        os.set_inheritable(file, True)\n\
        os.execve(file, ['cat', '/etc/hostname', '/proc/self/comm', '/etc/shadow'], {})";
    let outcome = jar().python(script);
    assert!(outcome.out.starts_with("belljar\n"), "{outcome:?}");
    assert!(
        outcome.err.contains("/etc/shadow: No such file"),
        "{outcome:?}"
    );
    let script = "file = os.memfd_create('x')\n\
        os.write(file, b'#!/bin/sh\\ngrep -E \"CapEff|Seccomp:|NoNewPrivs\" /proc/self/status')\n\
        os.set_inheritable(file, True)\n\
        os.execve('/proc/self/fd/%d' % file, ['x'], {'PATH': '/usr/bin'})";
    jar()
        .python(script)
        .says("CapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2");
}

#[test]
fn escape_clock_and_name() {
    let script = "call('settimeofday', 164, None, ctypes.create_string_buffer(8))\n\
        call('clock_settime', 227, 0, ctypes.create_string_buffer(16))\n\
        call('adjtimex', 159, ctypes.create_string_buffer(256))\n\
        call('clock_adjtime', 305, 0, ctypes.create_string_buffer(256))\n\
        call('sethostname', 170, b'x', 1)\n\
        call('setdomainname', 171, b'x', 1)\n\
        print('proc', os.access('/proc/sys/kernel/hostname', os.W_OK))\n\
        print(os.uname().nodename)";
    let before = fs::read("/proc/sys/kernel/hostname").unwrap();
    jar().python(script).says(
        "settimeofday EPERM\nclock_settime EPERM\nadjtimex EPERM\nclock_adjtime EPERM\n\
         sethostname EPERM\nsetdomainname EPERM\nproc False\nbelljar",
    );
    assert_eq!(before, fs::read("/proc/sys/kernel/hostname").unwrap());
}
