//! Every bound of the program, in one place: unit and bound last in each name.

/// One frame between our programs, in bytes.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// Arguments and environment of one command, in bytes (the kernel's own limit is stack/4).
pub const COMMAND_BYTES_MAX: usize = 2 << 20;
/// One ledger record, in bytes: an entry of a tlog-tiles bundle has a 16-bit length.
pub const RECORD_BYTES_MAX: usize = 65_535;
/// Records written by one group commit.
pub const COMMIT_RECORDS_MAX: usize = 4096;
/// Bytes written by one group commit.
pub const COMMIT_BYTES_MAX: usize = 4 << 20;
/// Bytes after which the ledger begins a new segment, unless told otherwise.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// Bytes of zeros a segment is extended by, so that most commits leave its size alone.
pub const SEGMENT_EXTEND_BYTES: usize = 256 << 10;
/// Entries in one change set, files or rows.
pub const CHANGE_ENTRIES_MAX: usize = 10_000_000;
/// Depth of a path below a workspace, in components.
pub const PATH_DEPTH_MAX: usize = 1024;
/// Output of a command kept in its run's record, in bytes per stream, unless `--limit output=`.
pub const OUTPUT_BYTES_DEFAULT: u64 = 64 << 20;
/// Processes and threads in one sandbox, unless `--limit pids=`.
pub const PIDS_DEFAULT: u64 = 4096;
/// Open files of one process, unless `--limit files=`.
pub const OPEN_FILES_DEFAULT: u64 = 65_536;
/// Wall time of a run in seconds, unless `--limit time=`.
pub const WALL_SECONDS_DEFAULT: u64 = 24 * 3600;
/// Bytes one run may write to its scratch layer, unless `--limit disk=`.
pub const DISK_BYTES_DEFAULT: u64 = 8 << 30;
/// Files and directories one run may create, unless `--limit inodes=`.
pub const INODES_DEFAULT: u64 = 2_000_000;
/// How long a sandbox may take to answer that it is closed, in milliseconds.
pub const READY_MILLIS_MAX: u64 = 10_000;
/// How long after a polite signal the sandbox is killed, in milliseconds.
pub const GRACE_MILLIS_MAX: u64 = 500;
/// Paths of the host that one sandbox can be shown: branches, `--read`, and branched databases.
pub const SHOWN_PATHS_MAX: usize = 128;
/// Bytes a run may send out, unless a rule's quota says otherwise.
pub const EGRESS_UP_BYTES_DEFAULT: u64 = 16 << 30;
/// Bytes a run may take in, likewise.
pub const EGRESS_DOWN_BYTES_DEFAULT: u64 = 256 << 30;
/// HTTP requests of a run, likewise.
pub const EGRESS_REQUESTS_DEFAULT: u64 = 10_000_000;
/// Connections of a run, ended or not, likewise.
pub const EGRESS_CONNECTIONS_DEFAULT: u64 = 1_000_000;
/// HTTP requests and connections of a run begun in any one second, likewise.
pub const EGRESS_PER_SECOND_DEFAULT: u64 = 2_000;
/// How long one tunnel may live, in seconds, likewise.
pub const EGRESS_TUNNEL_SECONDS_DEFAULT: u64 = 24 * 3600;
/// How long a connection may say nothing, in seconds, likewise.
pub const EGRESS_IDLE_SECONDS_DEFAULT: u64 = 900;
/// Denials of one run that get a record of their own while they come in a burst.
pub const EGRESS_DENIALS_MAX: usize = 4096;
/// Hosts of one run that are counted apart; what comes later shares one count.
pub const EGRESS_HOSTS_MAX: usize = 4096;
/// Connections of one run that may be open at the same time.
pub const EGRESS_OPEN_MAX: usize = 16_384;
/// How long one address may take to answer a connection, in milliseconds.
pub const EGRESS_DIAL_MILLIS_MAX: u64 = 10_000;
/// Addresses of one name that are tried.
pub const EGRESS_ADDRESSES_MAX: usize = 16;
/// How long a sandbox may take to say a whole proxy request or TLS greeting, in milliseconds.
pub const EGRESS_HEAD_MILLIS_MAX: u64 = 10_000;
/// A proxy request's head, in bytes.
pub const EGRESS_HEAD_BYTES_MAX: usize = 16 << 10;
/// A TLS ClientHello with its record headers, in bytes.
pub const EGRESS_HELLO_BYTES_MAX: usize = 32 << 10;
/// The body of a refusal over HTTP, in bytes.
pub const EGRESS_REFUSAL_BYTES_MAX: usize = 512;
/// Hosts of one run whose certificates are kept ready.
pub const EGRESS_CERTIFICATES_MAX: usize = 1024;
/// How long a run's certificates are valid, in seconds.
pub const EGRESS_CERTIFICATE_SECONDS: u64 = 30 * 24 * 3600;
/// How long closing a run's way out may take, in milliseconds.
pub const EGRESS_CLOSE_MILLIS_MAX: u64 = 2_000;
/// One DNS query of a sandbox, in bytes; longer ones are not read.
pub const DNS_QUERY_BYTES_MAX: usize = 1232;
/// One DNS answer to a sandbox, in bytes: what fits a datagram without EDNS.
pub const DNS_ANSWER_BYTES_MAX: usize = 512;
/// Why a name was denied, as told in a DNS answer, in bytes.
pub const DNS_REASON_BYTES_MAX: usize = 120;
/// Names of one run that have an address; later ones get none, none is ever given away.
pub const DNS_NAMES_MAX: usize = 16_384;
/// How long a sandbox may keep the address of a name, in seconds.
pub const DNS_ADDRESS_SECONDS: u32 = 60;
/// How long a sandbox may keep that a name has no answer, in seconds: a rule can be added.
pub const DNS_ABSENCE_SECONDS: u32 = 5;
/// DNS queries of one run that wait for a decision at once, for each socket; others are dropped.
pub const DNS_WAITING_MAX: usize = 256;
/// DNS queries of one run in any one second; over UDP the rest is dropped, over TCP it waits.
pub const DNS_QUERIES_PER_SECOND_MAX: u32 = 10_000;
/// TCP connections of one run to its DNS server at once, for each socket.
pub const DNS_CONNECTIONS_MAX: usize = 32;
/// How long a TCP connection to the DNS server may take for one message, in seconds.
pub const DNS_IDLE_SECONDS_MAX: u64 = 10;
/// Name servers that are asked.
pub const NAME_SERVERS_MAX: usize = 4;
/// How long one try to resolve a name may take, in milliseconds.
pub const RESOLVE_TRY_MILLIS_MAX: u64 = 3_000;
/// How long it may take to resolve a name, tries and waiting included, in milliseconds.
pub const RESOLVE_MILLIS_MAX: u64 = 8_000;
/// How long addresses of version 6 are waited for once those of version 4 are there, in milliseconds.
pub const RESOLVE_LATE_MILLIS_MAX: u64 = 50;
/// Addresses of one version taken for one name.
pub const RESOLVE_ADDRESSES_MAX: usize = 16;
/// Aliases followed from one name to its addresses.
pub const RESOLVE_ALIASES_MAX: usize = 8;
/// Names resolved at once, of all runs together; others wait.
pub const RESOLVING_MAX: usize = 64;
/// Names whose addresses are kept.
pub const RESOLVED_NAMES_MAX: usize = 4_096;
/// How long addresses are kept at least, in seconds.
pub const RESOLVED_SECONDS_MIN: u32 = 1;
/// How long addresses are kept at most, in seconds.
pub const RESOLVED_SECONDS_MAX: u32 = 300;
/// How long it is kept at most that a name has no addresses, in seconds.
pub const UNRESOLVED_SECONDS_MAX: u32 = 30;
/// After how long it is looked again which name servers the system asks, in seconds.
pub const NAME_SERVERS_KEPT_SECONDS: u64 = 5;
/// Rules of one run, allowing and denying.
pub const EGRESS_RULES_MAX: usize = 1024;
/// One rule of the command line, in bytes.
pub const EGRESS_RULE_BYTES_MAX: usize = 2048;
/// The path of one request that is judged, in bytes.
pub const EGRESS_PATH_BYTES_MAX: usize = 8192;
/// Connections that wait at a door of the gate until it takes them.
pub const DOOR_WAITING_CONNECTIONS_MAX: i32 = 1024;
/// What a big pipe holds that tunnels move their bytes through, in bytes.
pub const EGRESS_PIPE_BYTES: usize = 1 << 20;
/// Big pipes, used or waiting for the next tunnel with something to move.
pub const EGRESS_PIPES_MAX: usize = 64;
/// The value of a secret, in bytes.
pub const SECRET_VALUE_BYTES_MAX: usize = 8192;
/// The shortest value of a secret, in bytes: less could not be told apart from other text.
pub const SECRET_VALUE_BYTES_MIN: usize = 6;
/// Hosts that one secret is bound to.
pub const SECRET_HOSTS_MAX: usize = 64;
/// Places in a request that one secret is bound to.
pub const SECRET_PLACES_MAX: usize = 16;
/// Secrets of one run.
pub const SECRETS_MAX: usize = 64;
/// A request's body that a value goes into or a signature covers, in bytes.
pub const SECRET_BODY_BYTES_MAX: usize = 8 << 20;
/// What an error repeats of a rule, in characters.
pub const EGRESS_SHOWN_CHARS_MAX: usize = 128;
/// The widest net of public addresses of version 4 that a rule may allow: its prefix, in bits.
pub const EGRESS_NET_4_BITS_MIN: u8 = 8;
/// The widest net of public addresses of version 6 that a rule may allow: its prefix, in bits.
pub const EGRESS_NET_6_BITS_MIN: u8 = 16;
/// A host as somebody wrote it, in bytes: no name of 253 bytes is written in more.
pub const HOST_TEXT_BYTES_MAX: usize = 1024;
/// A host name, in bytes.
pub const HOST_NAME_BYTES_MAX: usize = 253;
/// What a refusal repeats of a path or a method, in bytes.
pub const EGRESS_REPEATED_BYTES_MAX: usize = 96;
/// The method of an HTTP request, in bytes.
pub const HTTP_METHOD_BYTES_MAX: usize = 32;
/// Path and query of an HTTP request, in bytes.
pub const HTTP_PATH_BYTES_MAX: usize = 32 << 10;
/// The head of an HTTP message, in bytes.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 << 10;
/// Header lines of an HTTP message.
pub const HTTP_HEAD_LINES_MAX: usize = 128;
/// How long a client may take for the head of its next HTTP request, in seconds.
pub const HTTP_HEAD_SECONDS_MAX: u64 = 60;
/// Streams of one connection of HTTP/2 at the same time.
pub const HTTP_STREAMS_MAX: u32 = 128;
/// What one stream of HTTP/2 may send before it has been read, in bytes; a connection twice that.
pub const HTTP_WINDOW_BYTES: u32 = 1 << 20;
/// What an upload must bring in each span of `idle_seconds`, in bytes.
pub const HTTP_UPLOAD_WINDOW_BYTES_MIN: u64 = 64;
/// Connections to one server that wait for their next request.
pub const HTTP_WAITING_CONNECTIONS_MAX: usize = 64;
/// How long a connection to a server waits for its next request, in seconds.
pub const HTTP_WAITING_SECONDS_MAX: u64 = 30;
/// Servers of one run beyond which those that nobody talks to are forgotten.
pub const HTTP_TARGETS_MAX: usize = 256;
/// What is still read from a client that was refused, in bytes and in milliseconds.
pub const HTTP_LINGER_BYTES_MAX: usize = 1 << 20;
/// How long a client that was refused may still send, in milliseconds.
pub const HTTP_LINGER_MILLIS_MAX: u64 = 1_000;
/// One piece of a WebSocket on its way, in bytes.
pub const HTTP_TUNNEL_BUFFER_BYTES: usize = 16 << 10;
/// A file of rules for the network, in bytes.
pub const EGRESS_FILE_BYTES_MAX: usize = 1 << 20;
/// Agents, name servers, fixed hosts or roots in one file of rules, each.
pub const EGRESS_FILE_ENTRIES_MAX: usize = 1024;
/// Schemes, ports, methods or addresses of one rule, each.
pub const EGRESS_RULE_LIST_MAX: usize = 64;
/// Secrets that are kept.
pub const SECRETS_KEPT_MAX: usize = 1024;
/// The file of one secret, in bytes.
pub const SECRET_FILE_BYTES_MAX: u64 = 256 << 10;
/// How long the source of a secret may take, in milliseconds.
pub const SECRET_SOURCE_MILLIS_MAX: u64 = 20_000;
/// The answer of a vault, in bytes.
pub const SECRET_ANSWER_BYTES_MAX: usize = 256 << 10;
/// New connections of a run that are led to the gate, for each second.
pub const DOOR_CONNECTIONS_PER_SECOND_MAX: u64 = 1000;
/// New connections of a run that are led to the gate at once.
pub const DOOR_CONNECTIONS_BURST_MAX: u32 = 10_000;
/// How long a server inside a sandbox may take to accept a connection from the host, in milliseconds.
pub const DIAL_INSIDE_MILLIS_MAX: u64 = 5_000;
/// The list of what a run changed in its workspace, in bytes.
pub const CHANGE_LIST_BYTES_MAX: u64 = 1 << 30;
/// Contents of what a run changed in its workspace, in bytes, beyond twice what its layer holds.
pub const CHANGE_PACK_BYTES_FREE: u64 = 64 << 20;
/// Extended attributes of one file or directory, in bytes.
pub const XATTRS_BYTES_MAX: usize = 16 << 20;
/// What names of the same files may make of a merge, in bytes, beyond four times what is stored.
pub const MERGE_NAMES_BYTES_FREE: u64 = 1 << 30;
