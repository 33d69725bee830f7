//! Scratch: runs a command in a jail.
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    missing_docs,
    clippy::disallowed_methods
)]
use belljar_base::{RunId, Timestamp};
use belljar_sandbox::*;
use std::sync::Arc;
fn main() {
    let host = Arc::new(Host::probe().unwrap());
    let dir = std::env::var("TPL").unwrap_or("/tmp/bj/templates".into());
    let template = Template::host(dir.as_ref(), &host).unwrap();
    let jail = backend::jail::Jail::new(host.clone()).unwrap();
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let n: usize = std::env::var("N").map(|n| n.parse().unwrap()).unwrap_or(1);
    let mut times = vec![];
    for i in 0..n {
        let t = std::time::Instant::now();
        let limits = Limits::defaults(host.memory_bytes);
        let ws = std::env::var("WS").ok();
        let spec = Spec {
            id: RunId::new(
                Timestamp::from_nanos(
                    std::time::SystemTime::now()
                        .duration_since(std::time::UNIX_EPOCH)
                        .unwrap()
                        .as_nanos() as u64,
                ),
                i as u32,
            ),
            branches: ws
                .iter()
                .map(|w| Branch {
                    directory: w.into(),
                })
                .collect(),
            reads: vec![],
            writes: vec![],
            limits: limits.clone(),
        };
        let mut sandbox = match jail.start(&spec, &template) {
            Ok(s) => s,
            Err(e) => {
                eprintln!("{e} / {:?}", e);
                return;
            }
        };
        let t1 = t.elapsed();
        let command = Command {
            arguments: args.clone(),
            environment: vec![
                (
                    "PATH".into(),
                    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
                ),
                ("HOME".into(), template.home.clone().into()),
            ],
            directory: ws.map(|w| w.into()).unwrap_or(template.home.clone()),
            terminal: None,
        };
        let out = || Stream::To(rustix::io::dup(rustix::stdio::stdout()).unwrap());
        let ended = attend(
            &mut *sandbox,
            &command,
            &limits,
            Attendance {
                stdin: None,
                stdout: out(),
                stderr: out(),
                signals: None,
            },
        )
        .unwrap();
        times.push((t1, t.elapsed()));
        if n == 1 {
            eprintln!("{ended:?} start {t1:?} total {:?}", t.elapsed());
        }
    }
    if n > 1 {
        times.sort();
        eprintln!(
            "start p50 {:?} total p50 {:?}",
            times[n / 2].0,
            times[n / 2].1
        );
    }
}
