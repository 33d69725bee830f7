//! Makes the fixtures and the seeds anew, from real databases, change sets and ledgers:
//! `cargo run --example seeds` in `fuzz/`, twice, because the doors carry the fixtures.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a tool for whoever changes a format, fed with nothing from outside"
)]

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use belljar_base::frame::{Ask, End, Execute, Tell, encode};
use belljar_base::{RunId, Timestamp};
use belljar_branch::Workspace;
use belljar_branch::engine::files::{self, IdShift, SealRequest};
use belljar_branch::engine::sqlite;
use belljar_ledger::{Draft, Event, Ledger, Options, Text};
use rusqlite::Connection;

fn main() {
    frames();
    words();
    network();
    workspaces();
    databases();
    ledgers();
    questions();
}

fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str, bytes: &[u8]) {
    let path = home().join("fixtures").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn seed(target: &str, name: &str, parts: &[&[u8]]) {
    let directory = home().join("seeds").join(target);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(name), parts.concat()).unwrap();
}

fn frames() {
    let tells = [
        Tell::Ready {
            version: 1,
            open: vec!["network".into(), "keys".into()],
        },
        Tell::Started { id: 7 },
        Tell::Failed {
            id: 7,
            step: "execve".into(),
            errno: 2,
        },
        Tell::Exited {
            id: 7,
            end: End::Signal(9),
        },
    ];
    let wire: Vec<u8> = tells
        .iter()
        .flat_map(|tell| encode(tell).unwrap())
        .collect();
    seed("frame", "tells", &[&[3], &wire]);
    let asks = [
        Ask::Execute(Execute {
            id: 1,
            arguments: vec![b"sh".to_vec(), b"-c".to_vec()],
            environment: vec![b"A=b".to_vec()],
            directory: b"/".to_vec(),
            terminal: Some((24, 80)),
        }),
        Ask::Signal { id: 1, signal: 15 },
    ];
    let wire: Vec<u8> = asks.iter().flat_map(|ask| encode(ask).unwrap()).collect();
    seed("frame", "asks", &[&[200], &wire]);
    seed("frame", "too_long", &[&[1], &[0xff; 4]]);
    seed("frame", "no_message", &[&[1], &[1, 0, 0, 0, 9]]);
}

fn words() {
    let id = RunId::new(Timestamp::from_millis(1_795_132_800_000), 7).to_string();
    for (name, word) in [
        ("run_id", id.as_str()),
        ("agent", "claude-code"),
        ("database", "shop_2"),
        ("variable", "_X1"),
        ("path", "run-../../../../etc"),
    ] {
        seed("run_id_and_names", name, &[word.as_bytes()]);
    }
}

fn questions() {
    const A: u8 = 1;
    let name = |labels: &[&[u8]]| {
        let length = |label: &[u8]| u8::try_from(label.len()).unwrap();
        let labels = labels
            .iter()
            .map(|label| [&[length(label)], *label].concat());
        [labels.collect::<Vec<_>>().concat(), vec![0]].concat()
    };
    let header = |records: u8| [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, records];
    let edns = [
        0, 0, 41, 4, 208, 0, 0, 128, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8,
    ];
    let long = [b'x'; 63];
    let rows: [(&str, Vec<u8>, u8); 10] = [
        ("address", name(&[b"WwW", b"ExAmPlE", b"cOm"]), A),
        ("text", name(&[&long, &long, &long, b"example", b"com"]), 16),
        (
            "service",
            name(&[b"_https", b"_tcp", b"example", b"com"]),
            33,
        ),
        (
            "reverse",
            name(&[b"1", b"0", b"18", b"198", b"in-addr", b"arpa"]),
            12,
        ),
        ("localhost", name(&[b"localhost"]), 28),
        ("dot_in_label", name(&[b"a.b", b"example", b"com"]), A),
        ("root", name(&[]), 2),
        ("transfer", name(&[b"example", b"com"]), 252),
        ("pointer", vec![0xC0, 4], A),
        ("pointer_to_itself", vec![1, b'a', 0xC0, 12], A),
    ];
    for (title, name, kind) in &rows {
        let question = [name.as_slice(), &[0, *kind, 0, 1]].concat();
        seed("dns", title, &[&header(1), &question, &edns]);
    }
    let question = [name(&[b"example", b"com"]), vec![0, A, 0, 1]].concat();
    seed("dns", "plain", &[&header(0), &question]);
    seed("dns", "cut_off", &[&header(1), &question, &edns[..9]]);
    seed("dns", "bytes_behind", &[&header(0), &question, &[0]]);
    seed(
        "dns",
        "two_questions",
        &[&[0, 1, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0], &question, &question],
    );
    seed(
        "dns",
        "answer",
        &[&[0, 1, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0], &question],
    );
    seed(
        "dns",
        "update",
        &[&[0, 1, 0x28, 0, 0, 1, 0, 0, 0, 0, 0, 0], &question],
    );
}

fn workspaces() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    for directory in ["lower/kept", "upper/made"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    fs::write(at("lower/changed"), "one\ntwo\nthree\n").unwrap();
    fs::write(at("upper/changed"), "one\n2\nthree\n\x1b[2J").unwrap();
    fs::write(at("upper/made/binary"), [0, 159, 255]).unwrap();
    fs::write(at("upper/made/100%\n"), "text").unwrap();
    symlink("../changed", at("upper/link")).unwrap();
    let lower = Workspace::open(&at("lower"), None).unwrap();
    let upper = fs::File::open(at("upper")).unwrap();
    let request = SealRequest {
        upper: upper.as_fd(),
        lower: &lower,
        started: Timestamp::from_millis(0),
        ids: IdShift::default(),
        into: &at("changes"),
    };
    files::seal(&request).unwrap();
    let manifest = fs::read_to_string(at("changes/files.json")).unwrap();
    let manifest = manifest.replace(lower.path().to_str().unwrap(), "/srv/shop");
    let pack = fs::read(at("changes/files.pack")).unwrap();
    let store = |name: &str, manifest: &str| {
        seed("change_set", name, &[manifest.as_bytes(), &[0], &pack]);
    };
    store("sealed", &manifest);
    store(
        "far_offset",
        &manifest.replace("\"offset\":0", "\"offset\":18446744073709551615"),
    );
    store("escaping", &manifest.replace("\"link\"", "\"../link\""));
    let skipped = r#""skipped":[{"path":"\u001b[2J","reason":"\u001b]0;x"}],"pack_bytes""#;
    store("skipped", &manifest.replace("\"pack_bytes\"", skipped));
}

const BEFORE: &str = "PRAGMA page_size = 512; PRAGMA application_id = 7;
    CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT, b);
    CREATE INDEX i ON t (a);
    CREATE TABLE w (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
    INSERT INTO t SELECT i, 'a' || i, CASE WHEN i = 9 THEN zeroblob(1200) ELSE i * 1.5 END FROM n;
    INSERT INTO w SELECT a, id FROM t WHERE id < 9;";
const AFTER: &str = "UPDATE t SET b = -1 WHERE id = 3; DELETE FROM t WHERE id = 20;
    INSERT INTO t (a, b) VALUES ('new', x'00ff'); UPDATE w SET v = NULL WHERE k = 'a2';
    CREATE TABLE u (x); INSERT INTO u VALUES (1), ('two'); ALTER TABLE t ADD COLUMN c DEFAULT 5;
    CREATE VIEW v AS SELECT a FROM t; PRAGMA user_version = 4;";

fn databases() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let read = |name: &str| fs::read(at(name)).unwrap();
    let source = Connection::open(at("source.db")).unwrap();
    source.execute_batch(BEFORE).unwrap();
    drop(source);
    let branch = at("branch");
    let branched = sqlite::branch(&at("source.db"), &branch).unwrap();
    let work = Connection::open(&branched.database).unwrap();
    work.execute_batch(AFTER).unwrap();
    drop(work);
    sqlite::seal(&branch).unwrap();
    let changed = fs::read(&branched.database).unwrap();
    row_changes(&branch);

    // A log over the changed database, and a journal that would take more changes back.
    fs::write(at("logged.db"), &changed).unwrap();
    let logged = Connection::open(at("logged.db")).unwrap();
    logged
        .execute_batch("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; UPDATE t SET b = b || 'x' WHERE id < 5; DELETE FROM w WHERE k = 'a1'")
        .unwrap();
    let log = read("logged.db-wal");
    drop(logged);
    fs::write(at("torn.db"), &changed).unwrap();
    let torn = Connection::open(at("torn.db")).unwrap();
    torn.execute_batch("PRAGMA cache_size = 1; PRAGMA cache_spill = 1; PRAGMA synchronous = off; BEGIN; UPDATE t SET b = 'torn', a = a || 'y'; DELETE FROM w")
        .unwrap();
    let (torn_bytes, journal) = (read("torn.db"), read("torn.db-journal"));
    drop(torn);

    fixture("base.db", &fs::read(branch.join("base.db")).unwrap());
    fixture("work.db", &changed);
    fixture("work.db-wal", &log);
    fixture("work.db-journal", &journal);
    let whole = |name: &str, flags: u8, files: [&[u8]; 3]| {
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_le_bytes();
        let [work, log, journal] = files;
        let lengths = [length(work), length(log)].concat();
        seed(
            "sqlite_branch",
            name,
            &[&[flags], &lengths, work, log, journal],
        );
    };
    whole("changed", 8, [&changed, b"", b""]);
    whole("logged", 9, [&changed, &log, b""]);
    whole("torn", 14, [&torn_bytes, b"", &journal]);
    whole("empty", 8, [b"", b"", b""]);
    for (name, flags) in [
        ("patched", 0_u8),
        ("patched_log", 5),
        ("patched_journal", 6),
        ("patched_all", 7),
    ] {
        seed(
            "sqlite_branch",
            name,
            &[&[flags], &[flags, 2, 40, 2, 9], &[flags, 0, 103, 0, 3]],
        );
    }
}

fn row_changes(branch: &Path) {
    let head = fs::read(branch.join("changes.json")).unwrap();
    let rows = fs::read(branch.join("changes.rows")).unwrap();
    seed("row_changes", "sealed", &[&head, &[0], &rows]);
    let text = String::from_utf8(head).unwrap();
    let counted = text.replace("\"inserted\":1", "\"inserted\":18446744073709551615");
    seed(
        "row_changes",
        "too_many_rows",
        &[counted.as_bytes(), &[0], &rows],
    );
    let long = text.replace("\"bytes\":", "\"bytes\":9223372036854775");
    let length = [0xff, 0xff, 0xff, 0xff, 7];
    seed(
        "row_changes",
        "too_long_row",
        &[long.as_bytes(), &[0], &rows[..8], &length, &rows[8..]],
    );
}

fn ledgers() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let ledger = Ledger::open(&at("ledger"), &Options::default()).unwrap();
    for what in ["one", "two", "three"] {
        let draft = Draft {
            at: Timestamp::from_millis(1_795_132_800_000),
            run: Some(RunId::new(Timestamp::from_millis(1_795_132_800_000), 7)),
            agent: None,
            event: Event::Recovered {
                what: Text::from(what),
            },
        };
        ledger.append(&[draft]).unwrap();
    }
    ledger.export(&at("export")).unwrap();
    drop(ledger);
    for name in ["keys/ledger.key", "ledger/key.pub", "ledger/checkpoint"] {
        fixture(&format!("ledger/{name}"), &fs::read(at(name)).unwrap());
    }
    let mut segment = fs::read(at("ledger/00000000.segment")).unwrap();
    segment.truncate(segment.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    fixture("ledger/ledger/00000000.segment", &segment);
    fixture(
        "ledger/export/bundle",
        &fs::read(at("export/tile/entries/000.p/3")).unwrap(),
    );
    fixture(
        "ledger/export/tile",
        &fs::read(at("export/tile/0/000.p/3")).unwrap(),
    );
    let frames = &segment[4096..];
    let hint = fs::read(at("ledger/head")).unwrap();
    let hint = [&hint[..8], &[0; 16], &hint[24..hint.len() - 8]].concat();
    let checkpoint = fs::read(at("ledger/checkpoint")).unwrap();
    let record = br#"{"at":"2026-11-20T00:00:00.000000000Z","event":"recovered","prev":"@prev","seq":@seq,"v":1,"what":"more"}"#;
    seed("ledger", "frames", &[&[0], frames]);
    seed("ledger", "torn", &[&[0], &frames[..frames.len() - 9]]);
    seed("ledger", "bytes_behind", &[&[1], b"\xffBJC", &[9; 40]]);
    seed(
        "ledger",
        "patched",
        &[&[2], &[0, 1, 60, 0, 1], &[2, 1, 30, 0, 1]],
    );
    seed("ledger", "one_more", &[&[3], record]);
    seed("ledger", "two_more", &[&[3], record, b"\n", record]);
    seed("ledger", "no_record", &[&[3], b"{}"]);
    seed("ledger", "checkpoint", &[&[4], &checkpoint]);
    seed("ledger", "hint", &[&[5], &hint]);
    seed(
        "ledger",
        "key",
        &[&[6], &fs::read(at("ledger/key.pub")).unwrap()],
    );
    seed("ledger", "export", &[&[7]]);
    seed("ledger", "patched_export", &[&[7], &[0, 1, 1, 0, 255]]);
}

/// What a sandbox and a person write to the rules for the network.
const NETWORK: &[(&str, &[(&str, &str)])] = &[
    (
        "host",
        &[
            ("name", "API.Example.com."),
            ("unicode", "bücher.example"),
            ("full_width", "１２７。０。０。１"),
            ("hexadecimal", "0x7f.1"),
            ("octal", "0177.0.0.01"),
            ("decimal", "2130706433"),
            ("mapped", "[::ffff:169.254.169.254]"),
            ("translated", "64:ff9b::10.0.0.1"),
            ("zone", "fe80::1%25eth0"),
            ("user", "user:word@example.com:80"),
            ("control", "example.com\r\nHost: other.example"),
            ("punycode", "xn--bcher-kva.xn--p1ai"),
            ("service", "_sip._tcp.example.com"),
            ("number_last", "example.0x7f"),
        ],
    ),
    (
        "network_rules",
        &[
            ("host", "example.com"),
            ("everything", "https://*.api.example.com:8443/v1/items"),
            ("tcp", "tcp://db.example.com:5432"),
            ("net", "10.0.0.0/8:5432"),
            ("net_6", "[2001:db8::/32]:443"),
            ("address_6", "2001:db8::1"),
            ("suffix", "*.co.uk:443/a"),
            ("all", "*"),
            ("credentials", "https://user:se/cr?e#t@example.com:0/a/../b?c"),
            ("metadata", "169.254.169.254"),
            ("octal", "0177.1/8"),
            ("dots", "example.com/a/../../b"),
            ("file", RULES_FILE),
        ],
    ),
    (
        "request_path",
        &[
            ("plain", "/v1/items/7"),
            ("dots", "/a/./b/../c/"),
            ("escapes", "/%41/%7e/%c3%bc/a%20b"),
            ("encoded_dots", "/a/%2e%2E/b"),
            ("encoded_slash", "/@scope%2fname"),
            ("twice", "/a/%252e%252e%252fb"),
            ("parameters", "/a/..;x=1/b;y"),
            ("empty", "/a//b"),
            ("backslash", "/a\\b"),
            ("root", "/"),
            ("climbs", "/../a"),
        ],
    ),
];

const RULES_FILE: &str = r#"mode = "observe"

[[allow]]
host = "*.example.com"
schemes = ["https", "wss"]
ports = [443, 8443]
methods = ["GET"]
path = "/v1"
addresses = ["10.0.0.0/8"]

[[deny]]
host = "*.zip"

[quota]
up_bytes = 1_000

[resolver]
nameservers = ["192.0.2.53"]
hosts = { "db.example.com" = "10.0.0.5" }

[trust]
roots = ["ca.pem"]

[[agent.some-agent.allow]]
host = "192.0.2.7"
"#;

fn network() {
    for (target, texts) in NETWORK {
        for (name, text) in *texts {
            seed(target, name, &[text.as_bytes()]);
        }
    }
}
