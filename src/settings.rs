//! What the user sets, by options of the command line or by variables: read once, for every command and bench,
//! into typed values. An error names what the user wrote.

use std::fmt::{self, Display};
use std::path::PathBuf;

use crate::case::{
    Axes, Axis, CaseError, Engine, Layout, Placement, Receiver, SendPath, Shape, Source, Workload,
    parse_copy_below, parse_list, parse_payload_bytes, parse_threads,
};
use crate::environment::Topology;
use crate::error::{Error, Result};
use crate::pair::{Client, Peer, Setup, SocketOptions};

/// Something that can be set by an option or by a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// What pairs do.
    Workloads,
    /// How messages are sent.
    Paths,
    /// Where fields lie.
    Layouts,
    /// Payload sizes.
    Sizes,
    /// Numbers of pairs.
    Threads,
    /// Where the two ends of a pair run.
    Placements,
    /// How clients take the bytes in.
    Receivers,
    /// Which messages are sent.
    Sources,
    /// How they are cut into fields.
    Shapes,
    /// How the paths' calls are made.
    Engines,
    /// Below which sizes the hybrid paths copy a field.
    CopyBelow,
    /// Where the two processes run.
    Netns,
    /// The command that leads to the client.
    Peer,
    /// Where data connections to a server with a peer are made to.
    ServerAddress,
    /// The MTU of the veth pair.
    Mtu,
    /// The size of the socket buffers.
    Buffers,
    /// TCP congestion control.
    Congestion,
}

impl Setting {
    /// Its option on the command line.
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            Self::Workloads => "--workload",
            Self::Paths => "--path",
            Self::Layouts => "--layout",
            Self::Sizes => "--size",
            Self::Threads => "--threads",
            Self::Placements => "--placement",
            Self::Receivers => "--receiver",
            Self::Sources => "--source",
            Self::Shapes => "--shape",
            Self::Engines => "--engine",
            Self::CopyBelow => "--copy-below",
            Self::Netns => "--netns",
            Self::Peer => "--peer",
            Self::ServerAddress => "--server-address",
            Self::Mtu => "--mtu",
            Self::Buffers => "--buffers",
            Self::Congestion => "--congestion",
        }
    }

    /// Its environment variable.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Workloads => "SENDPATH_WORKLOADS",
            Self::Paths => "SENDPATH_PATHS",
            Self::Layouts => "SENDPATH_LAYOUTS",
            Self::Sizes => "SENDPATH_SIZES",
            Self::Threads => "SENDPATH_THREADS",
            Self::Placements => "SENDPATH_PLACEMENT",
            Self::Receivers => "SENDPATH_RECEIVER",
            Self::Sources => "SENDPATH_SOURCE",
            Self::Shapes => "SENDPATH_SHAPE",
            Self::Engines => "SENDPATH_ENGINE",
            Self::CopyBelow => "SENDPATH_COPY_BELOW",
            Self::Netns => "SENDPATH_NETNS",
            Self::Peer => "SENDPATH_PEER",
            Self::ServerAddress => "SENDPATH_SERVER_ADDRESS",
            Self::Mtu => "SENDPATH_MTU",
            Self::Buffers => "SENDPATH_BUFFERS",
            Self::Congestion => "SENDPATH_CONGESTION",
        }
    }
}

/// What the user wrote, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The option or the variable.
    pub name: &'static str,
    /// Its value.
    pub text: String,
}

impl fmt::Display for Given {
    /// As the user wrote it: `--path one_copy`, `SENDPATH_PATHS=one_copy`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, text } = self;
        if name.starts_with("--") { write!(f, "{name} {text}") } else { write!(f, "{name}={text}") }
    }
}

/// Where settings are looked up: an option on the command line goes before its variable.
pub struct Settings<'a> {
    options: &'a dyn Fn(Setting) -> Option<String>,
    variables: &'a dyn Fn(&'static str) -> Option<String>,
}

impl<'a> Settings<'a> {
    /// `options` gives the value of an option, `variables` that of an environment variable.
    pub fn new(
        options: &'a dyn Fn(Setting) -> Option<String>,
        variables: &'a dyn Fn(&'static str) -> Option<String>,
    ) -> Self {
        Self { options, variables }
    }

    /// What the user wrote of `setting`; none where they did not.
    #[must_use]
    pub fn given(&self, setting: Setting) -> Option<Given> {
        let option = (self.options)(setting).map(|text| Given { name: setting.option(), text });
        option.or_else(|| {
            let text = (self.variables)(setting.variable())?;
            Some(Given { name: setting.variable(), text })
        })
    }

    /// The axes of the matrix that are set.
    ///
    /// # Errors
    /// [`Error::Setting`]: a list that is empty, repeats an item, or has an item that cannot be read; lists that do not go
    /// together.
    pub fn axes(&self) -> Result<Axes> {
        let axes = Axes {
            workloads: self.list(Setting::Workloads, Workload::parse)?,
            paths: self.list(Setting::Paths, SendPath::parse)?,
            layouts: self.list(Setting::Layouts, Layout::parse)?,
            payload_bytes: self.list(Setting::Sizes, parse_payload_bytes)?,
            threads: self.list(Setting::Threads, parse_threads)?,
            placements: self.list(Setting::Placements, Placement::parse)?,
            receivers: self.list(Setting::Receivers, Receiver::parse)?,
            sources: self.list(Setting::Sources, Source::parse)?,
            shapes: self.parsed(Setting::Shapes, parse_shapes)?,
            engines: self.list(Setting::Engines, Engine::parse)?,
            copy_below_bytes: self.list(Setting::CopyBelow, parse_copy_below)?,
        };
        axes.check().map_err(|error| {
            let concerned: &[Setting] = match error {
                CaseError::ShapeAndSize { .. } => &[Setting::Shapes, Setting::Sizes],
                CaseError::NoHybrid => &[Setting::CopyBelow],
                _ => &[Setting::Paths, Setting::Layouts, Setting::Engines],
            };
            let given = concerned.iter().filter_map(|&setting| Some(self.given(setting)?.to_string()));
            Error::Setting(format!("{}: {error}", given.collect::<Vec<_>>().join(" ")))
        })?;
        Ok(axes)
    }

    /// Namespaces, link and sockets. `program` is the `sendpath` command.
    ///
    /// # Errors
    /// [`Error::Setting`], and nothing is set up.
    pub fn setup(&self, program: PathBuf) -> Result<Setup> {
        let mut socket = SocketOptions::default();
        if let Some(buffers) = self.parsed(Setting::Buffers, str::parse)? {
            socket.buffers = buffers;
        }
        if let Some(Given { text, .. }) = self.given(Setting::Congestion) {
            socket.congestion = text;
        }
        let mtu_bytes = self.parsed(Setting::Mtu, |text| {
            text.parse().map_err(|_| format!("MTU {text:?} is not a number of bytes"))
        })?;
        let netns = self.parsed(Setting::Netns, Topology::parse)?;
        let server_address = self.parsed(Setting::ServerAddress, str::parse)?;
        let peer = self.parsed(Setting::Peer, Peer::parse)?.map(|peer| Peer { server_address, ..peer });
        let (topology, client) = match peer {
            None => (netns.unwrap_or_default(), Client::Child(program)),
            Some(peer) => (Topology::Peer, Client::Peer(peer)),
        };
        let setup = Setup { topology, mtu_bytes, socket, client };
        self.goes_together(&setup)?;
        setup.check()?;
        Ok(setup)
    }

    /// Refuses settings of the two ways to start a client at once.
    fn goes_together(&self, setup: &Setup) -> Result<()> {
        let has_peer = matches!(setup.client, Client::Peer(_));
        let alone: &[(Setting, &str)] = if has_peer {
            &[
                (
                    Setting::Netns,
                    "the server runs where the command is started: ip netns exec NAME sendpath ... --peer ...",
                ),
                (Setting::Mtu, "the link to a peer is left as it is"),
            ]
        } else {
            &[(Setting::ServerAddress, "only a peer's client needs to be told where the server is")]
        };
        for &(setting, why) in alone {
            if let Some(given) = self.given(setting) {
                let with =
                    self.given(Setting::Peer).map_or_else(|| "no --peer".to_owned(), |peer| peer.to_string());
                return Err(Error::Setting(format!("{given} does not go with {with}: {why}")));
            }
        }
        Ok(())
    }

    fn list<T: PartialEq>(
        &self,
        setting: Setting,
        parse: impl Fn(&str) -> std::result::Result<T, CaseError>,
    ) -> Result<Option<Vec<T>>> {
        self.parsed(setting, |text| parse_list(text, &parse))
    }

    fn parsed<T, E: Display>(
        &self,
        setting: Setting,
        parse: impl Fn(&str) -> std::result::Result<T, E>,
    ) -> Result<Option<T>> {
        let Some(Given { name, text }) = self.given(setting) else { return Ok(None) };
        match parse(&text) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(Error::Setting(format!("{name}: {error}"))),
        }
    }
}

/// Reads a shape; `@FILE` is a trace that stands in a file.
///
/// # Errors
/// What is wrong with it. Of a file: which line.
pub fn parse_shape(text: &str) -> std::result::Result<Shape, String> {
    inline(text)?.parse().map_err(|error: CaseError| error.to_string())
}

/// Reads a list of shapes, with `;` between them.
fn parse_shapes(text: &str) -> std::result::Result<Vec<Shape>, String> {
    let words: Vec<String> =
        text.split(';').map(|word| inline(word.trim())).collect::<std::result::Result<_, _>>()?;
    Shape::parse_list(&words.join(";")).map_err(|error| error.to_string())
}

/// A shape as it stands on a command line: a file is read.
fn inline(text: &str) -> std::result::Result<String, String> {
    let Some(file) = text.strip_prefix('@') else { return Ok(text.to_owned()) };
    let lines = std::fs::read_to_string(file).map_err(|errno| format!("read(2) {file}: {errno}"))?;
    trace(&lines).map_err(|problem| format!("{file}: {problem}"))
}

/// The lines of a trace file, a weight and a list of sizes on each (`97 64`, `3 24,512K`; `#` begins a comment), as it
/// stands on a command line: `97x64|3x24,512K`.
pub(crate) fn trace(lines: &str) -> std::result::Result<String, String> {
    let mut lists = Vec::new();
    for (index, line) in lines.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        // Between sizes there is a comma, with or without a space. Without the comma it is no list: 24 512 is not 24512.
        let list =
            line.split_once(char::is_whitespace).map(|(weight, sizes)| format!("{weight}x{}", sizes.trim()));
        match list.filter(|list| matches!(list.parse(), Ok(Shape::Trace(lists)) if lists.len() == 1)) {
            Some(list) => lists.push(list),
            None => {
                return Err(format!(
                    "line {}: {line:?} is not a weight (1 to 1000000) and a list of sizes (at most 64 fields, 16M in \
                     all), as in 3 24,512K",
                    index + 1
                ));
            }
        }
    }
    if lists.is_empty() {
        return Err("no line has a weight and a list of sizes, as in 3 24,512K".to_owned());
    }
    let all = lists.join("|");
    // What is wrong with the whole is said of the file.
    all.parse::<Shape>().map_err(|error| error.to_string())?;
    Ok(all)
}

/// The environment variable `name`; none where it is not set, or is not UTF-8.
#[must_use]
pub fn variable(name: &'static str) -> Option<String> {
    std::env::var(name).ok()
}

/// The setup that the variables ask for, for a bench.
///
/// # Errors
/// As [`Settings::setup`].
pub fn setup_from_variables(program: PathBuf) -> Result<Setup> {
    Settings::new(&|_| None, &variable).setup(program)
}

/// The axes that the variables set, for a bench.
///
/// # Errors
/// As [`Settings::axes`].
pub fn axes_from_variables() -> Result<Axes> {
    Settings::new(&|_| None, &variable).axes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(
        options: &[(Setting, &str)],
        variables: &[(&str, &str)],
        of: impl Fn(&Settings<'_>) -> Result<T>,
    ) -> Result<T> {
        let option = |asked: Setting| {
            options.iter().find(|(setting, _)| *setting == asked).map(|(_, text)| (*text).to_owned())
        };
        let variable = |asked: &'static str| {
            variables.iter().find(|(name, _)| *name == asked).map(|(_, text)| (*text).to_owned())
        };
        of(&Settings::new(&option, &variable))
    }

    fn axes(settings: &Settings<'_>) -> Result<Axes> {
        settings.axes()
    }

    #[test]
    fn nothing_given_sets_nothing() {
        assert_eq!(read(&[], &[], axes).unwrap(), Axes::default());
    }

    #[test]
    fn an_option_goes_before_its_variable() {
        let axes =
            read(&[(Setting::Sizes, "4K")], &[("SENDPATH_SIZES", "64"), ("SENDPATH_THREADS", "2")], |s| {
                s.axes()
            });
        let axes = axes.unwrap();
        assert_eq!((axes.payload_bytes, axes.threads), (Some(vec![4096]), Some(vec![2])));
    }

    #[test]
    fn sizes_of_a_trace_file_are_not_joined_where_a_comma_is_missing() {
        assert_eq!(trace("97 64\n3\t24, 512K # header and body\n").unwrap(), "97x64|3x24, 512K");
        let error = trace("97 64\n3 24 512K\n").unwrap_err();
        assert!(error.starts_with(r#"line 2: "3 24 512K" is not"#), "{error}");
    }

    #[test]
    fn an_error_names_what_the_user_wrote() {
        for (options, variables, message) in [
            (
                &[(Setting::Sizes, "64,x")][..],
                &[][..],
                r#"--size: size "x" is not a number of bytes such as 64, 4K or 1M"#,
            ),
            (&[], &[("SENDPATH_SIZES", "1K,1024")], r#"SENDPATH_SIZES: "1024" stands twice"#),
            (
                &[(Setting::Receivers, "")],
                &[("SENDPATH_RECEIVER", "fields")],
                "--receiver: the list is empty: give a comma list, or leave it out for the default",
            ),
        ] {
            let error = read(options, variables, axes).unwrap_err();
            assert!(error.is_bad_input());
            assert_eq!(error.to_string(), message);
        }
        let error =
            read(&[(Setting::Paths, "one_copy")], &[("SENDPATH_ENGINE", "uring_fixed")], axes).unwrap_err();
        let message =
            "--path one_copy SENDPATH_ENGINE=uring_fixed: path one_copy has no engine uring_fixed: ";
        assert!(error.is_bad_input() && error.to_string().starts_with(message), "{error}");
        let setup = |settings: &Settings<'_>| settings.setup(PathBuf::new());
        let error = read(&[(Setting::Mtu, "big")], &[], setup).unwrap_err().to_string();
        assert_eq!(error, r#"--mtu: MTU "big" is not a number of bytes"#);
        let error = read(&[(Setting::Peer, "ssh 'bob")], &[], setup).unwrap_err().to_string();
        assert!(error.starts_with("--peer: peer \"ssh 'bob\": expected a command"), "{error}");
        for (options, variables, said) in [
            (
                &[(Setting::Peer, "cat")][..],
                &[("SENDPATH_NETNS", "loopback")][..],
                "SENDPATH_NETNS=loopback does not go with --peer cat: the server runs where",
            ),
            (
                &[(Setting::Mtu, "9000")],
                &[("SENDPATH_PEER", "cat")],
                "--mtu 9000 does not go with SENDPATH_PEER=cat",
            ),
            (
                &[(Setting::ServerAddress, "127.0.0.1")],
                &[],
                "--server-address 127.0.0.1 does not go with no --peer",
            ),
            (
                &[(Setting::ServerAddress, "192.0.2.1"), (Setting::Peer, "cat")],
                &[],
                "server address 192.0.2.1 is on no interface here; there are 127.0.0.1 (lo)",
            ),
        ] {
            let error = read(options, variables, setup).unwrap_err();
            assert!(error.is_bad_input() && error.to_string().starts_with(said), "{options:?}: {error}");
        }
        let error = read(&[], &[("SENDPATH_BUFFERS", "1")], setup).unwrap_err().to_string();
        assert!(error.starts_with("SENDPATH_BUFFERS: ") && error.contains("auto"), "{error}");
    }

    #[test]
    fn what_a_list_asks_for_and_would_not_be_measured_is_refused() {
        use Setting::{CopyBelow, Engines, Layouts, Paths, Shapes, Sizes};
        for (options, said) in [
            (&[(Paths, "one_copy"), (Engines, "uring_fixed")][..], "no engine uring_fixed"),
            (&[(Paths, "zero_copy,one_copy"), (Engines, "uring_fixed")], "path one_copy has no engine"),
            (&[(Paths, "splice"), (Engines, "uring,uring_sqpoll")], "path splice has no engine uring:"),
            (&[(Paths, "two_copy,file"), (Layouts, "page")], "path file has no layout page"),
            (&[(CopyBelow, "4K")], "--copy-below 4K: only the paths hybrid and hybrid_zero"),
            (&[(Paths, "two_copy"), (CopyBelow, "4K")], "only the paths hybrid"),
            (&[(Paths, "hybrid"), (CopyBelow, "0")], "--copy-below: threshold \"0\""),
            (&[(Sizes, "16"), (Shapes, "header")], "--shape header --size 16: a payload of 16 bytes has not"),
            (&[(Sizes, "64K"), (Shapes, "24,512K")], "--shape 24,512K --size 64K: a payload of 65536 bytes"),
            (&[(Shapes, "round")], "--shape: shape \"round\" is none of"),
            (&[(Shapes, "header;header")], "--shape: \"header\" stands twice"),
            (&[(Shapes, "@/nowhere/trace")], "--shape: read(2) /nowhere/trace: "),
            (&[(Engines, "epoll")], "--engine: unknown engine \"epoll\""),
        ] {
            let error = read(options, &[], axes).unwrap_err();
            assert!(error.is_bad_input(), "{options:?}");
            assert!(error.to_string().contains(said), "{options:?}: {error}");
        }
    }

    #[test]
    fn what_there_is_of_the_products_is_measured() {
        use crate::case::{Matrix, Series};
        let series = |options: &[(Setting, &str)]| {
            let axes = read(options, &[], axes).unwrap();
            Matrix::by_size().overridden(&axes).series.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let paths = (Setting::Paths, "two_copy,zero_copy");
        assert_eq!(
            series(&[paths, (Setting::Engines, "uring_fixed,uring")]),
            [
                "two_copy/heap/uring",
                "zero_copy/heap/uring_fixed",
                "zero_copy/heap/uring",
                "zero_copy/page/uring_fixed",
                "zero_copy/page/uring"
            ]
        );
        assert_eq!(
            series(&[(Setting::Paths, "file,splice"), (Setting::Layouts, "heap,page")]),
            ["file/heap", "splice/heap", "splice/page"]
        );
        assert_eq!(
            series(&[(Setting::Paths, "one_copy,hybrid"), (Setting::CopyBelow, "1K,4K")]),
            ["one_copy/heap", "hybrid/heap/below1024", "hybrid/heap"]
        );
        let default: Vec<String> = Matrix::by_size().series.iter().map(Series::to_string).collect();
        assert_eq!(series(&[]), default);
    }

    #[test]
    fn shapes_bring_their_sizes_or_take_those_that_fit() {
        use crate::case::Matrix;
        let sizes = |shapes: &str, sizes: &str| {
            let options = [(Setting::Shapes, shapes), (Setting::Sizes, sizes), (Setting::Threads, "1")];
            let matrix = Matrix::by_size().overridden(&read(&options, &[], axes).unwrap());
            let of = |cell: crate::case::Cell| format!("{} {}", cell.shape, cell.payload_bytes);
            matrix.cells().map(of).collect::<Vec<_>>()
        };
        assert_eq!(sizes("header;equal", "16,64"), ["header 64", "equal 16", "equal 64"]);
        assert_eq!(sizes("equal;24,512K", "64"), ["equal 64", "24,512K 524312"]);
        assert_eq!(sizes("64K", "64K"), ["64K 65536"]);
    }

    #[test]
    fn a_trace_stands_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trace.txt");
        let text = |lines: &str| {
            std::fs::write(&file, lines).unwrap();
            format!("@{}", file.display())
        };
        let given = text("# replies of a key-value store\n97 64\n\n3 24, 512K   # with a body\n");
        assert_eq!(parse_shape(&given).unwrap().to_string(), "97x64|3x24,512K");
        let listed =
            read(&[(Setting::Shapes, &format!("header; {given}"))], &[], axes).unwrap().shapes.unwrap();
        assert_eq!(listed.iter().map(ToString::to_string).collect::<Vec<_>>(), ["header", "97x64|3x24,512K"]);

        for (lines, said) in [
            ("97 64\n3\n", "trace.txt: line 2: \"3\" is not a weight"),
            ("97 64\n# all\n0 24,512K\n", "trace.txt: line 3: \"0 24,512K\""),
            ("97 64|2x8\n", "trace.txt: line 1: "),
            ("97 17M\n", "trace.txt: line 1: "),
            ("# nothing\n", "trace.txt: no line has a weight"),
            ("100000 64\n1 512K\n", "trace.txt: shape \"100000x64|1x512K\": a list has less than 1/512"),
        ] {
            let error = parse_shape(&text(lines)).unwrap_err();
            assert!(error.contains(said), "{lines:?}: {error}");
        }
    }
}
