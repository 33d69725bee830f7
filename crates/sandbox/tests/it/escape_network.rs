//! Attacks on the network of a gated sandbox: there is no way but the gate's doors.

use std::io::{BufRead, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use belljar_sandbox::network::{Doors, Dropped, Network, TRANSPARENT_PORT};
use belljar_sandbox::{Attendance, Shown, Stream, attend};
use rustix::net::sockopt;

use crate::support::{Jar, Outcome, jar, outcome};

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
    let jar = gated();
    let mut sandbox = jar.start().unwrap();
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
