//! Honest requests pass, both ways and whole; what speaks of one connection alone does not.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;

use super::support::client::Client;
use super::support::world::{Plan, World};
use super::support::{raw, web};

const API: &str = "api.example.com";

/// A server in TLS, and a gate that looks into the TLS to it.
fn terminated(server: &web::Server) -> World {
    let methods = ["GET", "POST", "HEAD", "PUT"];
    Plan::default()
        .allow_methods(&format!("https://{API}:{}", server.port), &methods)
        .host(API)
        .root(server.root.clone())
        .open()
}

/// A server in the clear, and a gate that lets requests to it through.
fn plain(server: &raw::Server) -> World {
    let rule = format!("http://{API}:{}", server.port);
    Plan::default().allow(&rule).host(API).open()
}

fn empty(method: &str, uri: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(uri);
    request.body(Full::default()).unwrap()
}

#[test]
fn a_request_passes_tls_that_is_looked_into() {
    let server = web::Server::ok(&[API]);
    let world = terminated(&server);
    let mut client = Client::tls(&world, API, server.port);
    let host = format!("{API}:{}", server.port);
    let answer = client.ask(format!("GET /a?b=c HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].path, "/a?b=c");
    assert_eq!(seen[0].authority, host);
    assert_eq!(seen[0].version, "HTTP/1.1");
    assert_eq!(seen[0].method, "GET");
    let attempts = world.attempts();
    let asked = "Allow https api.example.com GET /a ";
    assert!(
        attempts.iter().any(|line| line.starts_with(asked)),
        "{attempts:?}"
    );
}

#[test]
fn requests_of_one_connection_share_one_to_the_server() {
    let server = web::Server::ok(&[API]);
    let world = terminated(&server);
    let host = format!("{API}:{}", server.port);
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for _client in 0..3 {
        let mut client = Client::tls(&world, API, server.port);
        for _request in 0..3 {
            assert_eq!(client.ask(&request).status, 200);
        }
    }
    // Those of later connections as well, once it waits for its next request.
    let connections: Vec<usize> = server.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0; 9]);
}

#[test]
fn bodies_pass_whole_in_every_framing() {
    let server = raw::Server::start(|seen| {
        let length = seen.body.len();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{length}",
            length.to_string().len()
        )
        .into_bytes()
    });
    let world = plain(&server);
    let host = format!("{API}:{}", server.port);
    let mut client = Client::plain(&world, API, server.port);
    let large = "x".repeat(1 << 20);
    let with_length = format!(
        "POST /l HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{large}",
        large.len()
    );
    assert_eq!(client.ask(with_length).body, large.len().to_string());
    let chunked = format!(
        "PUT /c HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n5;why=not\r\nhello\r\n6\r\n world\r\n0\r\nSum: 11\r\n\r\n"
    );
    assert_eq!(client.ask(chunked).body, "11");
    // What a library would leave out: a GET may have a body.
    let odd = format!(
        "GET /g HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    );
    assert_eq!(client.ask(odd).body, "2");
    let seen = server.seen();
    assert_eq!(seen[0].body.len(), large.len());
    assert_eq!(seen[1].body, b"hello world");
    assert_eq!(seen[1].trailers, [("sum".to_owned(), "11".to_owned())]);
    assert_eq!(seen[2].body, b"hi");
    assert_eq!(server.odd(), [""; 0]);
}

#[test]
fn an_expectation_is_answered_once_the_request_may_pass() {
    let server = raw::Server::ok();
    let world = plain(&server);
    let host = format!("{API}:{}", server.port);
    let mut client = Client::plain(&world, API, server.port);
    client.say(format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    ));
    assert_eq!(client.hear().unwrap().status, 100);
    client.say("hi");
    assert_eq!(client.hear().unwrap().status, 200);
    assert_eq!(server.seen()[0].all("expect"), [""; 0]);
    assert_eq!(server.seen()[0].body, b"hi");
    // A request that may not pass is not asked for its body.
    let mut client = Client::plain(&world, API, server.port);
    let refused = client.ask("POST / HTTP/1.1\r\nHost: other.example\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(refused.status, 403);
}

#[test]
fn answers_without_a_body_keep_their_length() {
    let server = raw::Server::start(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 42\r\n\r\n".to_vec());
    let world = plain(&server);
    let mut client = Client::plain(&world, API, server.port);
    client.say(format!(
        "HEAD / HTTP/1.1\r\nHost: {API}:{}\r\nConnection: close\r\n\r\n",
        server.port
    ));
    let rest = String::from_utf8(client.rest()).unwrap();
    assert!(rest.contains("content-length: 42"), "{rest}");
    assert!(rest.ends_with("\r\n\r\n"), "{rest}");
}

#[test]
fn what_speaks_of_a_connection_ends_at_the_gate() {
    let server = raw::Server::start(|_| {
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nX-End: 2\r\nAlt-Svc: h3=\":443\"\r\nProxy-Authenticate: Basic\r\n\r\nok".to_vec()
    });
    let world = plain(&server);
    let mut client = Client::plain(&world, API, server.port);
    let answer = client.ask(format!(
        "GET / HTTP/1.1\r\nHost: {API}:{}\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nX-Other: 2\r\nKeep-Alive: 9\r\nTE: trailers, gzip\r\nProxy-Authorization: Basic YTpi\r\nProxy-Connection: keep-alive\r\n\r\n",
        server.port
    ));
    let head = answer.head.to_ascii_lowercase();
    for gone in ["x-hop", "keep-alive", "alt-svc", "proxy-"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    assert!(head.contains("x-end: 2"), "{head}");
    let names: Vec<String> = server.seen()[0]
        .fields
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    assert_eq!(names, ["host", "x-other", "te"]);
    assert_eq!(server.seen()[0].all("te"), ["trailers"]);
}

#[test]
fn redirects_go_back_to_the_client() {
    let elsewhere = raw::Server::ok();
    let port = elsewhere.port;
    let server = raw::Server::start(move |_| {
        format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{port}/\r\nRefresh: 0; url=http://127.0.0.1:{port}/\r\ncontent-length: 0\r\n\r\n").into_bytes()
    });
    let world = plain(&server);
    let mut client = Client::plain(&world, API, server.port);
    let answer = client.ask(format!(
        "GET / HTTP/1.1\r\nHost: {API}:{}\r\n\r\n",
        server.port
    ));
    assert_eq!(answer.status, 302);
    assert!(
        answer
            .head
            .contains(&format!("location: http://127.0.0.1:{port}/")),
        "{}",
        answer.head
    );
    assert_eq!(elsewhere.seen(), []);
    // The client that follows comes back through the gate, which judges anew.
    let mut follower = Client::proxy(&world);
    let answer = follower.ask(format!(
        "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
    ));
    assert_eq!(answer.status, 403);
    assert_eq!(elsewhere.seen(), []);
}

#[test]
fn http2_reaches_servers_of_both_kinds() {
    for (protocols, version) in [
        (&["h2", "http/1.1"][..], "HTTP/2.0"),
        (&["http/1.1"], "HTTP/1.1"),
    ] {
        let server = web::Server::start(&[API], protocols, |seen| {
            Response::new(Full::from(seen.body.clone()))
        });
        let world = terminated(&server);
        let mut client = web::Client::http2(&world, API, server.port);
        let uri = format!("https://{API}:{}/x?y", server.port);
        let mut request = Request::post(&uri)
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        request = request.header("te", "trailers");
        let (status, _, body) = client
            .ask(request.body(Full::from("hello")).unwrap())
            .unwrap();
        assert_eq!((status, &body[..]), (200, &b"hello"[..]));
        let crowd = (0..20).map(|_| empty("GET", &uri)).collect();
        assert_eq!(client.crowd(crowd), [200; 20]);
        let seen = server.seen();
        assert_eq!(seen[0].version, version);
        assert_eq!(seen[0].authority, format!("{API}:{}", server.port));
        assert_eq!(seen[0].path, "/x?y");
        let cookies: Vec<&str> = seen[0]
            .headers
            .get_all("cookie")
            .iter()
            .map(|one| one.to_str().unwrap())
            .collect();
        match version {
            "HTTP/1.1" => assert_eq!(cookies, ["a=1; b=2"]),
            _ => assert_eq!(cookies, ["a=1", "b=2"]),
        }
        if version == "HTTP/2.0" {
            assert!(
                seen.iter().all(|seen| seen.connection == 0),
                "one connection is shared"
            );
        }
    }
}

#[test]
fn a_server_that_closed_while_it_waited_is_asked_anew() {
    // Says that it keeps the connection, and does not.
    let server = web::Server::start(&[API], &["http/1.1"], |_| {
        Response::builder()
            .header("connection", "close")
            .body(Full::from("ok"))
            .unwrap()
    });
    let world = terminated(&server);
    let request = format!("GET / HTTP/1.1\r\nHost: {API}:{}\r\n\r\n", server.port);
    let mut client = Client::tls(&world, API, server.port);
    for _request in 0..3 {
        assert_eq!(client.ask(&request).status, 200);
    }
    let connections: Vec<usize> = server.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1, 2]);
}

#[test]
fn a_server_that_is_not_there_or_not_itself_is_told_plainly() {
    let stranger = web::Server::ok(&["other.example"]);
    let unknown = web::Server::ok(&[API]);
    let ask = |port: u16, root: Option<&web::Server>| {
        let mut plan = Plan::default().host(API);
        plan = plan.allow_methods(&format!("https://{API}:{port}"), &["GET"]);
        if let Some(server) = root {
            plan = plan.root(server.root.clone());
        }
        let world = plan.open();
        let mut client = Client::tls(&world, API, port);
        let answer = client.ask(format!("GET / HTTP/1.1\r\nHost: {API}:{port}\r\n\r\n"));
        assert!(!answer.body.contains("127.0.0.1"), "{}", answer.body);
        (answer.status, answer.member("e"), answer.member("detail"))
    };
    let told = |reason: &str| {
        (
            502,
            "egress.unreachable".to_owned(),
            format!("`{API}` {reason}"),
        )
    };
    assert_eq!(ask(web::nobody(), None), told("could not be reached"));
    let named = |why: &str| {
        (
            502,
            "egress.unreachable".to_owned(),
            format!("the certificate of `{API}` is {why}"),
        )
    };
    assert_eq!(
        ask(stranger.port, Some(&stranger)),
        named("for another name")
    );
    assert_eq!(
        ask(unknown.port, None),
        named("from an issuer that is not trusted")
    );
    let silent = raw::Server::start(|_| Vec::new());
    let rule = format!("http://{API}:{}", silent.port);
    let world = Plan::default().allow(&rule).host(API).open();
    let mut client = Client::plain(&world, API, silent.port);
    let answer = client.ask(format!(
        "GET / HTTP/1.1\r\nHost: {API}:{}\r\n\r\n",
        silent.port
    ));
    assert_eq!(answer.status, 502);
    assert_eq!(
        answer.member("detail"),
        format!("`{API}` closed the connection without a whole answer")
    );
}

#[test]
fn one_connection_to_the_proxy_serves_several_hosts() {
    let (one, two) = (raw::Server::ok(), raw::Server::ok());
    let world = Plan::default()
        .allow(&format!("http://one.example:{}", one.port))
        .allow(&format!("http://two.example:{}", two.port))
        .host("one.example")
        .host("two.example")
        .open();
    let mut client = Client::proxy(&world);
    for (host, port) in [
        ("one.example", one.port),
        ("two.example", two.port),
        ("one.example", one.port),
    ] {
        let answer = client.ask(format!(
            "GET http://{host}:{port}/p HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
        ));
        assert_eq!(answer.status, 200, "{host}: {}", answer.body);
    }
    assert_eq!(one.seen().len(), 2);
    assert_eq!(two.seen().len(), 1);
    assert_eq!(two.seen()[0].line, "GET /p HTTP/1.1");
    let refused = client.ask("GET http://three.example/ HTTP/1.1\r\nHost: three.example\r\n\r\n");
    assert_eq!(
        (refused.status, refused.member("e").as_str()),
        (403, "egress.host_denied")
    );
}

#[test]
fn every_passage_is_on_record_with_its_end() {
    let server = raw::Server::ok();
    let world = plain(&server);
    let mut client = Client::plain(&world, API, server.port);
    let host = format!("{API}:{}", server.port);
    client.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    drop(client);
    let passed = || {
        let ends = world.ends();
        ends.iter()
            .any(|end| end.status == Some(200) && end.up > 10 && end.down > 2)
    };
    super::support::world::until("the request has ended", passed);
    let counts = world.close();
    assert!(counts.up_bytes > 0 && counts.down_bytes > 2, "{counts:?}");
    assert_eq!(counts.denied, 0);
}
