//! Attacks on the network of a gated sandbox: there is no way but the gate's doors.

use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use belljar_sandbox::backend::jail::Jail;
use belljar_sandbox::network::{Doors, Dropped, Network, TRANSPARENT_PORT};
use belljar_sandbox::{Attendance, Backend, Shown, Stream, attend};
use rustix::net::sockopt;

use crate::support::{Jar, Outcome, jar, outcome, shared};

/// What a script said in a gated sandbox, and what came of it.
struct Visit {
    outcome: Outcome,
    doors: Doors,
}

fn gated() -> Jar {
    let mut jar = jar();
    jar.spec.network = Network::Gated;
    jar
}

/// Runs a script of Python in a gated sandbox whose doors nobody answers.
fn visit(script: &str) -> Visit {
    visit_in(&shared().jail, script)
}

fn visit_in(jail: &Jail, script: &str) -> Visit {
    let jar = gated();
    let mut sandbox = jail.start(&jar.spec, &jar.shared.template).unwrap();
    let doors = sandbox.doors().unwrap();
    assert!(sandbox.doors().is_none());
    let attendance = Attendance {
        stdin: None,
        stdout: Stream::Keep,
        stderr: Stream::Keep,
        signals: None,
    };
    let script = format!(
        "{}\nsocket.setdefaulttimeout(2)\n\
         def connect(host, port, family=socket.AF_INET):\n    \
             with socket.socket(family) as one:\n        \
                 one.connect((host, port))\n{script}",
        crate::support::PRELUDE
    );
    let command = jar.command(&["/usr/bin/python3", "-I", "-c", &script]);
    let ended = attend(&mut *sandbox, &command, &jar.spec.limits, attendance).unwrap();
    Visit {
        outcome: outcome(ended),
        doors,
    }
}

impl Visit {
    /// Where the connections at the transparent doors were meant to go.
    fn arrived(&self) -> Vec<String> {
        let accepted = self.doors.transparent.iter().flat_map(accepted);
        let meant = accepted.map(|stream| {
            let meant = match stream.local_addr().unwrap() {
                SocketAddr::V4(_) => SocketAddr::V4(sockopt::ip_original_dst(&stream).unwrap()),
                SocketAddr::V6(_) => SocketAddr::V6(sockopt::ipv6_original_dst(&stream).unwrap()),
            };
            meant.to_string()
        });
        meant.collect()
    }

    /// The datagrams at the doors for names.
    fn asked(&self) -> Vec<String> {
        let mut asked = Vec::new();
        for door in &self.doors.dns_udp {
            let door = UdpSocket::from(door.try_clone().unwrap());
            let mut buffer = [0; 512];
            while let Ok((count, _)) = door.recv_from(&mut buffer) {
                asked.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
            }
        }
        asked
    }

    fn dropped(&self) -> Dropped {
        self.doors.counters.read().unwrap()
    }
}

/// Every connection that waits at a door.
fn accepted(door: &OwnedFd) -> Vec<TcpStream> {
    let listener = TcpListener::from(door.try_clone().unwrap());
    std::iter::from_fn(|| listener.accept().ok().map(|(stream, _)| stream)).collect()
}

#[test]
fn escape_network_addresses() {
    let visit = visit(
        "for host in ('8.8.8.8', '10.0.0.1', '169.254.169.254', '198.18.0.7', '255.1.2.3', '0.1.2.3'):\n    \
             attempt(host, lambda: connect(host, 443))\n\
         six = socket.AF_INET6\n\
         for host in ('2001:db8::1', 'fd00:ec2::254', '::ffff:9.9.9.9', '64:ff9b::a00:1'):\n    \
             attempt(host, lambda: connect(host, 80, six))\n\
         attempt('link', lambda: socket.socket(10).connect(('fe80::1', 80, 0, 1)))\n\
         attempt('own', lambda: connect('127.0.0.1', 4444))\n\
         attempt('own6', lambda: connect('::1', 4444, six))\n\
         attempt('address', lambda: connect('192.0.0.2', 4444))",
    );
    visit.outcome.says(
        "8.8.8.8 OPEN\n10.0.0.1 OPEN\n169.254.169.254 OPEN\n198.18.0.7 OPEN\n255.1.2.3 OPEN\n\
         0.1.2.3 OPEN\n2001:db8::1 OPEN\nfd00:ec2::254 OPEN\n\
         ::ffff:9.9.9.9 OPEN\n64:ff9b::a00:1 OPEN\nlink OPEN\nown ECONNREFUSED\nown6 ECONNREFUSED\n\
         address ECONNREFUSED",
    );
    let wanted = [
        "8.8.8.8:443",
        "10.0.0.1:443",
        "169.254.169.254:443",
        "198.18.0.7:443",
        "255.1.2.3:443",
        "0.1.2.3:443",
        "9.9.9.9:80",
        "[2001:db8::1]:80",
        "[fd00:ec2::254]:80",
        "[64:ff9b::a00:1]:80",
        "[fe80::1]:80",
    ];
    assert_eq!(visit.arrived(), wanted);
    assert_eq!(visit.dropped(), Dropped::default());
}

#[test]
fn escape_network_names() {
    let visit = visit(
        "for host in ('127.0.0.1', '127.0.0.53', '8.8.8.8', '192.0.0.2'):\n    \
             attempt(host, lambda: socket.socket(2, 2).sendto(host.encode(), (host, 53)))\n    \
             attempt('tcp', lambda: connect(host, 53))\n\
         for host in ('::1', '2001:4860:4860::8888'):\n    \
             attempt(host, lambda: socket.socket(10, 2).sendto(host.encode(), (host, 53)))\n    \
             attempt('tcp', lambda: connect(host, 53, socket.AF_INET6))\n\
         print(open('/etc/resolv.conf').read().split())",
    );
    visit.outcome.says(
        "127.0.0.1 OPEN\ntcp OPEN\n127.0.0.53 OPEN\ntcp OPEN\n8.8.8.8 OPEN\ntcp OPEN\n\
         192.0.0.2 OPEN\ntcp OPEN\n::1 OPEN\ntcp OPEN\n2001:4860:4860::8888 OPEN\ntcp OPEN\n\
         ['nameserver', '127.0.0.1']",
    );
    let wanted = [
        "127.0.0.1",
        "127.0.0.53",
        "8.8.8.8",
        "192.0.0.2",
        "::1",
        "2001:4860:4860::8888",
    ];
    assert_eq!(visit.asked(), wanted);
    assert_eq!(visit.doors.dns_tcp.iter().flat_map(accepted).count(), 6);
    assert!(visit.arrived().is_empty());
    assert_eq!(visit.dropped(), Dropped::default());
}

#[test]
fn escape_network_datagrams() {
    let visit = visit(
        "for host in ('8.8.8.8', '255.255.255.255', '224.0.0.251'):\n    \
             one = socket.socket(2, 2); one.setsockopt(1, 6, 1)\n    \
             attempt(host, lambda: one.sendto(b'x', (host, 443)))\n\
         attempt('six', lambda: socket.socket(10, 2).sendto(b'x', ('2001:db8::1', 443)))\n\
         own = socket.socket(2, 2); own.bind(('127.0.0.1', 0))\n\
         attempt('own', lambda: socket.socket(2, 2).sendto(b'x', own.getsockname()))\n\
         print(own.recv(9))",
    );
    visit
        .outcome
        .says("8.8.8.8 EPERM\n255.255.255.255 EPERM\n224.0.0.251 EPERM\nsix EPERM\nown OPEN\nb'x'");
    let wanted = Dropped {
        udp: 4,
        ..Dropped::default()
    };
    assert_eq!(visit.dropped(), wanted);
}

#[test]
fn escape_network_doors() {
    let visit = visit(&format!(
        "for port in ({TRANSPARENT_PORT}, 1021, 53):\n    \
             for kind in (1, 2):\n        \
                 for family, host in ((2, '0.0.0.0'), (2, '127.0.0.1'), (2, '8.8.8.8'), (10, '::'), (10, '::1')):\n            \
                     one = socket.socket(family, kind)\n            \
                     one.setsockopt(1, 2, 1); one.setsockopt(1, 15, 1)\n            \
                     attempt('bind', lambda: one.bind((host, port)))\n\
         attempt('open', lambda: open('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'w'))\n\
         print(open('/proc/sys/net/ipv4/ip_unprivileged_port_start').read())"
    ));
    let wanted = format!("{}open EROFS\n1024", "bind EACCES\n".repeat(30));
    visit.outcome.says(&wanted);
}

#[test]
fn what_is_shown_takes_the_place_of_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle");
    std::fs::write(&bundle, "trusted\n").unwrap();
    let mut jar = jar();
    for at in [
        "/etc/hostname",
        "/etc/not/there/yet",
        "/etc/ssl/certs/ca-certificates.crt",
    ] {
        jar.spec.shows.push(Shown {
            source: bundle.clone(),
            at: at.into(),
        });
    }
    jar.sh(
        "cd /etc; cat hostname not/there/yet ssl/certs/ca-certificates.crt
        (echo x >> hostname) 2>/dev/null || rm hostname 2>/dev/null || echo closed",
    )
    .says("trusted\ntrusted\ntrusted\nclosed");
}

#[test]
fn escape_network_connection_table() {
    // Sockets are closed at once, so that what they leave in the table is all that counts.
    let visit = visit(
        "def count(): return int(open('/proc/sys/net/netfilter/nf_conntrack_count').read())\n\
         server = socket.create_server(('127.0.0.1', 0))\n\
         for number in range(500):\n    \
             connect(*server.getsockname())\n    \
             server.accept()[0].close()\n\
         print(count() < 10)\n\
         for number in range(12000):\n    \
             one = socket.socket(); one.setblocking(False)\n    \
             one.connect_ex(('8.8.%d.%d' % divmod(number, 250), 443)); one.close()\n\
         print(9000 < count() < 11900)",
    );
    visit.outcome.says("True\nTrue");
    assert!(visit.dropped().rate > 100, "{:?}", visit.dropped());
}

#[test]
fn a_server_inside_is_reached() {
    let jar = gated();
    let mut sandbox = jar.start().unwrap();
    let doors = sandbox.doors().unwrap();
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let outside = outside.local_addr().unwrap().port();
    let script = "import socket\n\
        servers = [(2, '127.0.0.1', 8080), (10, '::1', 8081)]\n\
        for family, host, port in servers:\n    \
            server = socket.create_server((host, port), family=family)\n    \
            print('ready', flush=True)\n    \
            for _ in range(20):\n        \
                with server.accept()[0] as one: one.sendall(b'hello')";
    let command = jar.command(&["/usr/bin/python3", "-I", "-c", script]);
    let stdio = sandbox.execute(&command).unwrap();
    let mut output = std::io::BufReader::new(std::fs::File::from(stdio.stdout.unwrap()));
    let dial = |port| doors.dialer.connect(port);
    for port in [8080, 8081] {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        for _connection in 0..20 {
            let mut heard = String::new();
            dial(port).unwrap().read_to_string(&mut heard).unwrap();
            assert_eq!(heard, "hello");
        }
    }
    // What listens on the host is not what is reached, nor are the gate's own doors.
    let refused = dial(outside).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    for port in [0, 53, TRANSPARENT_PORT, 1021, 1022] {
        let refused = dial(port).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    }
    sandbox.end().unwrap();
    let refused = dial(8080).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn escape_network_protocols() {
    // Stream and datagram of every protocol but TCP, UDP and MPTCP, of both versions.
    let visit = visit(
        "seen = set()\n\
         for family in (2, 10):\n    \
             for kind in (1, 2, 3, 4, 5, 6, 10):\n        \
                 for protocol in list(range(263)) + [2**32 + 6, 2**31]:\n            \
                     given = answer(41, family, kind, ctypes.c_ulong(protocol))\n            \
                     if given == 'OPEN': seen.add((family, kind, protocol))\n\
         print(sorted(seen))\n\
         attempt('sctp', lambda: socket.socket(2, 1, 132))\n\
         attempt('dccp', lambda: socket.socket(2, 6, 33))\n\
         attempt('lite', lambda: socket.socket(2, 2, 136))\n\
         attempt('smc', lambda: socket.socket(2, 1, 256))\n\
         attempt('ping', lambda: socket.socket(2, 2, 1))\n\
         attempt('raw', lambda: socket.socket(2, 3, 255))\n\
         attempt('packet', lambda: socket.socket(17, 3, 3))\n\
         attempt('old packet', lambda: socket.socket(2, 10, 3))\n\
         attempt('vsock', lambda: socket.socket(40, 1))\n\
         attempt('vsock device', lambda: os.open('/dev/vsock', 0))\n\
         attempt('tun', lambda: os.open('/dev/net/tun', 2))",
    );
    visit.outcome.says(
        "[(2, 1, 0), (2, 1, 6), (2, 1, 262), (2, 1, 4294967302), (2, 2, 0), (2, 2, 17), \
         (10, 1, 0), (10, 1, 6), (10, 1, 262), (10, 1, 4294967302), (10, 2, 0), (10, 2, 17)]\n\
         sctp EPROTONOSUPPORT\ndccp EPROTONOSUPPORT\nlite EPROTONOSUPPORT\n\
         smc EPROTONOSUPPORT\nping EACCES\nraw EPROTONOSUPPORT\npacket EAFNOSUPPORT\n\
         old packet EPROTONOSUPPORT\nvsock EAFNOSUPPORT\nvsock device ENOENT\ntun ENOENT",
    );
    assert_eq!(visit.dropped(), Dropped::default());
}

#[test]
fn escape_network_tricks() {
    let visit = visit(
        "def one(kind=1): return socket.socket(2, kind)\n\
         def tricked(level, name, value):\n    \
             here = one(); here.setsockopt(level, name, value); here.connect(('8.8.8.8', 443))\n\
         attempt('mptcp', lambda: socket.socket(2, 1, 262).connect(('1.0.0.1', 443)))\n\
         attempt('fast open', lambda: one().sendto(b'x', 0x20000000, ('1.0.0.2', 443)))\n\
         attempt('device', lambda: tricked(1, 25, b'lo'))\n\
         attempt('mark', lambda: tricked(1, 36, 1))\n\
         attempt('transparent', lambda: tricked(0, 19, 1))\n\
         attempt('loose route', lambda: tricked(0, 4, bytes([131, 7, 4, 127, 0, 0, 1, 0])))\n\
         attempt('strict route', lambda: tricked(0, 4, bytes([137, 7, 4, 9, 9, 9, 9, 0])))\n\
         foreign = one(); foreign.bind(('8.8.4.4', 0))\n\
         attempt('foreign source', lambda: foreign.connect(('1.0.0.3', 443)))\n\
         server = one(); server.bind(('1.0.0.4', 4443)); server.listen()\n\
         attempt('impersonate', lambda: one().connect(('1.0.0.4', 4443)))\n\
         server.setblocking(False)\n\
         attempt('accept', lambda: server.accept())\n\
         names = one(2); names.bind(('8.8.8.8', 5353))\n\
         attempt('names', lambda: one(2).sendto(b'x', ('8.8.8.8', 5353)))\n\
         alike = one(2); alike.bind(('9.9.9.9', 0))\n\
         attempt('icmp', lambda: alike.sendto(b'x', ('127.0.0.1', 9)))",
    );
    visit.outcome.says(
        "mptcp OPEN\nfast open EINPROGRESS\ndevice OPEN\nmark EPERM\ntransparent EPERM\n\
         loose route EPERM\nstrict route EPERM\nforeign source OPEN\nimpersonate OPEN\n\
         accept EAGAIN\nnames EPERM\nicmp OPEN",
    );
    let wanted = [
        "1.0.0.1:443",
        "1.0.0.2:443",
        "8.8.8.8:443",
        "1.0.0.3:443",
        "1.0.0.4:4443",
    ];
    assert_eq!(visit.arrived(), wanted);
    // The answer to a datagram that said to come from elsewhere went nowhere as well.
    let wanted = Dropped {
        udp: 1,
        icmp: 1,
        ..Dropped::default()
    };
    assert_eq!(visit.dropped(), wanted);
}

/// Tries to change the network from inside.
const CHANGE: &str = r"
import fcntl, struct
route = socket.socket(16, 3, 0)
def ask(name, kind, body):
    route.send(struct.pack('=IHHII', 16 + len(body), kind, 0x405, 1, 0) + body)
    told = struct.unpack('=i', route.recv(4096)[16:20])[0]
    print(name, errno.errorcode.get(-told, 'OPEN'))
lo = struct.pack('=I', 1)
ask('address', 20, bytes([2, 24, 0, 0]) + lo + b'\x08\0\x02\0\x0a\0\0\x01')
ask('no address', 21, bytes([2, 32, 0, 0]) + lo + b'\x08\0\x02\0\xc0\0\0\x02')
ask('route', 24, bytes([2, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]) + b'\x08\0\x04\0' + lo)
ask('no route', 25, bytes([2, 0, 0, 0, 255, 4, 254, 2, 0, 0, 0, 0]))
ask('down', 16, bytes(4) + lo + struct.pack('=II', 0, 1))
ask('device', 16, bytes(16) + b'\x14\0\x12\0\x09\0\x01\0dummy\0\0\0')
attempt('rules', lambda: socket.socket(16, 3, 12))
attempt('diagnosis', lambda: socket.socket(16, 3, 4))
try: socket.socket(2, 1).setsockopt(0, 64, bytes(96)); print('old rules OPEN')
except OSError as error: print('old rules', 'refused' if error.errno in (errno.EPERM, errno.ENOPROTOOPT) else error)
attempt('flags', lambda: fcntl.ioctl(socket.socket(2, 2), 0x8914, b'lo'.ljust(16, b'\0') + bytes(24)))
attempt('setting', lambda: open('/proc/sys/net/ipv4/ip_forward', 'w'))
attempt('guest', lambda: os.open('/proc/1/ns/net', 0))
call('enter', 308, os.open('/proc/self/ns/net', 0), 0)
";

/// What it says where nothing can be changed. A kernel that has not loaded the old rules knows no
/// such option.
const UNCHANGED: &str = "address EPERM\nno address EPERM\nroute EPERM\nno route EPERM\ndown EPERM\n\
         device EPERM\nrules EAFNOSUPPORT\ndiagnosis EAFNOSUPPORT\nold rules refused\n\
         flags EPERM\nsetting EROFS\nguest EACCES\nenter EPERM";

#[test]
fn escape_network_settings() {
    visit(CHANGE).outcome.says(UNCHANGED);
}

/// As root, the network was made before the sandbox, and belongs to the supervisor.
#[test]
fn escape_ready_network() {
    let jail = Jail::new(Arc::clone(&shared().host));
    let jail = jail.with_networks(2).unwrap();
    for _more_than_are_ready in 0..4 {
        let script = format!(
            "{CHANGE}\nattempt('out', lambda: connect('9.9.9.9', 443))\n\
             attempt('host', lambda: connect('127.0.0.1', 22))\n\
             print(open('/proc/sys/net/netfilter/nf_conntrack_udp_timeout').read())"
        );
        let visit = visit_in(&jail, &script);
        let more = "out OPEN\nhost ECONNREFUSED\n10";
        visit.outcome.says(&format!("{UNCHANGED}\n{more}"));
        assert_eq!(visit.arrived(), ["9.9.9.9:443"]);
        assert_eq!(visit.dropped(), Dropped::default());
        let refused = visit.doors.dialer.connect(8080).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

#[test]
fn escape_network_neighbours() {
    let other = gated();
    let mut sandbox = other.start().unwrap();
    let doors = sandbox.doors().unwrap();
    let script = "import socket, time\n\
        server = socket.create_server(('0.0.0.0', 8088))\n\
        plain = socket.socket(1); plain.bind(b'\\0neighbour'); plain.listen()\n\
        print('ready', flush=True); time.sleep(30)";
    let command = other.command(&["/usr/bin/python3", "-I", "-c", script]);
    let stdio = sandbox.execute(&command).unwrap();
    let mut ready = [0; 5];
    let mut output = std::fs::File::from(stdio.stdout.unwrap());
    output.read_exact(&mut ready).unwrap();
    doors.dialer.connect(8088).unwrap();

    let host = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let visit = visit(&format!(
        "for host in ('127.0.0.1', '127.9.9.9', '192.0.0.2'):\n    \
             attempt(host, lambda: connect(host, 8088))\n    \
             attempt('host', lambda: connect(host, {port}))\n\
         attempt('abstract', lambda: socket.socket(1).connect(b'\\0neighbour'))\n\
         attempt('elsewhere', lambda: connect('10.200.0.1', 8088))"
    ));
    let refused = "ECONNREFUSED\nhost ECONNREFUSED";
    visit.outcome.says(&format!(
        "127.0.0.1 {refused}\n127.9.9.9 {refused}\n192.0.0.2 {refused}\n\
         abstract ECONNREFUSED\nelsewhere OPEN"
    ));
    assert_eq!(visit.arrived(), ["10.200.0.1:8088"]);
    host.set_nonblocking(true).unwrap();
    assert!(host.accept().is_err(), "a run reached a server of the host");
    sandbox.end().unwrap();
}

#[test]
fn a_network_ends_with_its_doors() {
    let namespaces = || {
        let table = std::fs::read_to_string("/proc/slabinfo").ok()?;
        let line = table
            .lines()
            .find_map(|line| line.strip_prefix("net_namespace"))?;
        line.split_whitespace().next()?.parse::<usize>().ok()
    };
    const ROUNDS: usize = 40;
    let before = namespaces();
    for _round in 0..ROUNDS {
        let mut sandbox = gated().start().unwrap();
        let doors = sandbox.doors().unwrap();
        sandbox.end().unwrap();
        assert_eq!(doors.counters.read().unwrap(), Dropped::default());
    }
    let Some(before) = before else {
        println!("an ordinary user cannot count namespaces: only that they can be made is tested");
        return;
    };
    // Other tests make some meanwhile, and the kernel takes them apart in the background.
    let gone = (0..200).any(|_attempt| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        namespaces().unwrap() < before + ROUNDS / 2
    });
    assert!(gone, "{before} before, {:?} after", namespaces());
}

#[test]
fn escape_network_mixed_destinations() {
    let visit = visit(
        "kept = []\n\
         def out(host, port):\n    \
             one = socket.socket(); one.setsockopt(1, 2, 1); one.setsockopt(1, 15, 1)\n    \
             one.bind(('0.0.0.0', 45678)); one.connect((host, port)); kept.append(one)\n\
         for number in range(200):\n    \
             out('10.0.%d.1' % number, 1000 + number)\n\
         print(len({one.getsockname()[1] for one in kept}), len(kept))",
    );
    visit.outcome.says("1 200");
    let wanted: Vec<String> = (0..200)
        .map(|number| format!("10.0.{number}.1:{}", 1000 + number))
        .collect();
    assert_eq!(visit.arrived(), wanted);
}

#[test]
fn answers_come_from_where_they_were_asked() {
    let jar = gated();
    let mut sandbox = jar.start().unwrap();
    let doors = sandbox.doors().unwrap();
    let over = AtomicBool::new(false);
    let script = "import socket\n\
        for family, host in ((2, '127.0.0.1'), (2, '8.8.8.8'), (2, '9.9.9.9'), (10, '2001:db8::1')):\n    \
            with socket.socket(family, 2) as one:\n        \
                one.settimeout(5); one.sendto(b'asked', (host, 53))\n        \
                print(one.recvfrom(99)[1][0] == host)\n    \
            with socket.socket(family, 2) as one:\n        \
                one.settimeout(5); one.connect((host, 53)); one.send(b'asked'); print(one.recv(99))\n\
        for host in ('8.8.8.8', '2001:db8::1'):\n    \
            with socket.create_connection((host, 443), timeout=5) as one:\n        \
                one.sendall(b'x' * 300000); one.shutdown(1)\n        \
                print(sum(iter(lambda: len(one.recv(65536)), 0)))";
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| answer(&doors, &over));
        let attendance = Attendance {
            stdin: None,
            stdout: Stream::Keep,
            stderr: Stream::Keep,
            signals: None,
        };
        let command = jar.command(&["/usr/bin/python3", "-I", "-c", script]);
        let ended = attend(&mut *sandbox, &command, &jar.spec.limits, attendance);
        over.store(true, Ordering::Relaxed);
        ended.unwrap()
    });
    let name = "True\nb'asked'\n".repeat(4);
    outcome(ended).says(&format!("{name}300000\n300000"));
}

/// Sends back what comes to the doors, until it is over.
fn answer(doors: &Doors, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        for door in &doors.dns_udp {
            let door = UdpSocket::from(door.try_clone().unwrap());
            let mut buffer = [0; 512];
            while let Ok((count, from)) = door.recv_from(&mut buffer) {
                door.send_to(&buffer[..count], from).unwrap();
            }
        }
        for mut stream in doors.transparent.iter().flat_map(accepted) {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&all).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
