//! What the user sets, by options of the command line or by variables: one list of them, which
//! every command takes a part of and the benches take as variables alone. An error names what the
//! user wrote.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::case::{
    Axes, Axis, CaseError, Engine, Layout, Placement, Receiver, SendPath, Shape, Source, Workload,
    parse_copy_below, parse_list, parse_payload_bytes, parse_threads,
};
use crate::environment::Topology;
use crate::error::{Error, Result};
use crate::pair::{Client, Peer, Setup, SocketOptions, parse_server_address};

/// Declares what can be set: of each its option, its variable, and what may be given, as `--help`
/// has it.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident = $option:literal, $variable:literal, $about:literal;)+) => {
        /// Something that can be set by an option or by a variable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Setting { $($(#[$doc])* $name,)+ }

        impl Setting {
            /// All of them.
            const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its option, its variable, and what may be given.
            const fn words(self) -> [&'static str; 3] {
                match self { $(Self::$name => [$option, $variable, $about],)+ }
            }
        }
    };
}

settings! {
    /// What pairs do.
    Workloads = "--workload", "SENDPATH_WORKLOADS",
        "rr (8-byte request, whole message back), stream (messages back to back)";
    /// How messages are sent.
    Paths = "--path", "SENDPATH_PATHS",
        "two_copy (pack, send), one_copy (sendmsg with an iovec for each field), zero_copy (with MSG_ZEROCOPY), \
        hybrid (small fields copied into one buffer, large ones gathered), hybrid_zero (with MSG_ZEROCOPY), \
        splice (vmsplice, splice), file (sendfile from a memfd)";
    /// Where fields lie.
    Layouts = "--layout", "SENDPATH_LAYOUTS",
        "heap (fields as malloc gives them), page (each field on pages of its own), huge (on huge pages)";
    /// Payloads.
    Sizes = "--size", "SENDPATH_SIZES",
        "Payload of one message, 8 to 16M: 64, 4K, 1M";
    /// Numbers of pairs.
    Threads = "--threads", "SENDPATH_THREADS",
        "Pairs of one server and one client thread, 1 to 256";
    /// Which CPUs the ends of a pair run on.
    Placements = "--placement", "SENDPATH_PLACEMENT",
        "paired (both ends on one CPU), split (servers and clients on different CPUs), free";
    /// How the client takes the bytes in.
    Receivers = "--receiver", "SENDPATH_RECEIVER",
        "buffer (recv into one buffer), fields (recvmsg into the fields), unpack (recv, then unpack), discard \
        (dropped in the kernel), mmap (TCP_ZEROCOPY_RECEIVE: whole pages are mapped), matched (as the sender \
        sends), sink (nobody: the sender alone, nothing copied on the way)";
    /// Which messages are sent.
    Sources = "--source", "SENDPATH_SOURCE",
        "hot (a few messages, sent in turn), cold (a set that no cache holds)";
    /// How payloads are cut into fields.
    Shapes = "--shape", "SENDPATH_SHAPE",
        "How the payload is cut into fields: equal (eight), header (24 bytes and the rest), fields:N (1 to 64 \
        equal ones), sizes such as 24,512K, a trace such as 97x64|3x24,512K (of every 100 messages 97 and 3), \
        or @FILE (a trace with a list on each line: 97 64)";
    /// How the paths' calls are made.
    Engines = "--engine", "SENDPATH_ENGINE",
        "How the path's call is made: syscall, uring (io_uring), uring_fixed (from registered buffers, \
        zero_copy alone), uring_sqpoll (a kernel thread takes the sends)";
    /// Below which size hybrid paths copy a field.
    CopyBelow = "--copy-below", "SENDPATH_COPY_BELOW",
        "hybrid and hybrid_zero copy fields of fewer bytes";
    /// Where the two processes run.
    Netns = "--netns", "SENDPATH_NETNS",
        "Where the two ends run: anonymous (two network namespaces, made and gone with the run), \
        SERVER,CLIENT (two that exist; see netns-setup.sh), or loopback";
    /// The command that starts a client elsewhere.
    Peer = "--peer", "SENDPATH_PEER",
        "A command whose standard input and output lead to `sendpath client` on another machine, as in \
        'ssh bob sendpath client'. It is run without a shell and without a terminal";
    /// Where that client connects to.
    ServerAddress = "--server-address", "SENDPATH_SERVER_ADDRESS",
        "The address of this machine that the peer's client connects to: 10.0.0.1, 10.0.0.1:7001";
    /// The MTU of the link.
    Mtu = "--mtu", "SENDPATH_MTU",
        "MTU of the veth pair, in bytes";
    /// The sockets' buffers.
    Buffers = "--buffers", "SENDPATH_BUFFERS",
        "Socket buffers: a size such as 2M, or auto for the kernel's autotuning";
    /// The sockets' congestion control.
    Congestion = "--congestion", "SENDPATH_CONGESTION",
        "TCP congestion control";
}

impl Setting {
    /// The option of the command line.
    pub const fn option(self) -> &'static str {
        self.words()[0]
    }

    /// The environment variable.
    pub const fn variable(self) -> &'static str {
        self.words()[1]
    }
}

/// A setting as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The option or the variable.
    pub name: &'static str,
    /// What it says.
    pub text: String,
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, text } = self;
        if name.starts_with("--") { write!(f, "{name} {text}") } else { write!(f, "{name}={text}") }
    }
}

/// A part of the list that a command takes.
pub trait Part {
    /// What stands above it in `--help`.
    const HEADING: &'static str;
    /// The settings, each with the name of its value and its default. A value that is a `LIST` may
    /// be several.
    const TAKEN: &'static [(Setting, &'static str, &'static str)];
    /// Whether a variable does as well.
    const HAS_VARIABLES: bool = true;
}

/// The name of a value that may be several.
const LIST: &str = "LIST";

/// The cases that a sweep, a comparison or a bench measures.
#[derive(Clone, Copy, Debug)]
pub struct Matrix;

impl Part for Matrix {
    const HEADING: &'static str = "Cases, in place of the profile's: each takes a list";
    const TAKEN: &'static [(Setting, &'static str, &'static str)] = &[
        (Setting::Workloads, LIST, ""),
        (Setting::Paths, LIST, ""),
        (Setting::Layouts, LIST, ""),
        (Setting::Sizes, LIST, ""),
        (Setting::Threads, LIST, ""),
        (Setting::Placements, LIST, ""),
        (Setting::Receivers, LIST, ""),
        (Setting::Sources, LIST, ""),
        (Setting::Shapes, LIST, "[between several: ;]"),
        (Setting::Engines, LIST, ""),
        (Setting::CopyBelow, LIST, ""),
    ];
}

/// The one case of a run.
#[derive(Clone, Copy, Debug)]
pub struct One;

impl Part for One {
    const HEADING: &'static str = "The case";
    const TAKEN: &'static [(Setting, &'static str, &'static str)] = &[
        (Setting::Workloads, "NAME", "[default: rr]"),
        (Setting::Paths, "NAME", "[default: two_copy]"),
        (Setting::Layouts, "NAME", "[default: heap]"),
        (Setting::Sizes, "BYTES", "[default: 64K, or what the shape brings with it]"),
        (Setting::Threads, "PAIRS", "[default: 1]"),
        (Setting::Placements, "NAME", "[default: paired]"),
        (Setting::Receivers, "NAME", "[default: buffer]"),
        (Setting::Sources, "NAME", "[default: hot]"),
        (Setting::Shapes, "SHAPE", "[default: equal]"),
        (Setting::Engines, "NAME", "[default: syscall]"),
        (Setting::CopyBelow, "BYTES", "[default: 4K]"),
    ];
    const HAS_VARIABLES: bool = false;
}

/// What a threshold is looked for with: sizes are what is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Sought;

impl Part for Sought {
    const HEADING: &'static str = "Paths and cases";
    const TAKEN: &'static [(Setting, &'static str, &'static str)] = &[
        (Setting::Paths, LIST, "[default: one_copy,zero_copy]"),
        (Setting::Layouts, LIST, "[default: heap; zero_copy: page]"),
        (Setting::Engines, LIST, "[default: syscall]"),
        (Setting::Receivers, "NAME", "[default: sink, or buffer where it cannot be made]"),
        (Setting::Shapes, "SHAPE", "[default: equal]"),
        (Setting::Workloads, "NAME", "[default: rr]"),
        (Setting::Threads, "PAIRS", "[default: 1]"),
        (Setting::Placements, "NAME", "[default: paired]"),
        (Setting::Sources, "NAME", "[default: hot]"),
    ];
}

/// The link and the sockets.
#[derive(Clone, Copy, Debug)]
pub struct Link;

impl Part for Link {
    const HEADING: &'static str = "Link and sockets";
    const TAKEN: &'static [(Setting, &'static str, &'static str)] = &[
        (Setting::Netns, "NETNS", "[default: anonymous]"),
        (Setting::Peer, "COMMAND", ""),
        (
            Setting::ServerAddress,
            "ADDRESS[:PORT]",
            "[default: that on the subnet which both ends share, any free port]",
        ),
        (Setting::Mtu, "BYTES", "[default: the kernel's, 1500]"),
        (Setting::Buffers, "BYTES", "[default: 2M]"),
        (Setting::Congestion, "NAME", "[default: reno]"),
    ];
}

/// What the user gave of a [`Part`].
#[derive(Clone, Debug)]
pub struct Settings<P> {
    given: Vec<(Setting, Given)>,
    part: PhantomData<P>,
}

impl<P: Part> Args for Settings<P> {
    fn augment_args(command: Command) -> Command {
        let argument = |&(setting, value, default): &(Setting, &'static str, &'static str)| {
            let [option, variable, about] = setting.words();
            let option = option.trim_start_matches("--");
            let argument = Arg::new(option)
                .long(option)
                .value_name(value)
                .hide_env_values(true)
                .help_heading(P::HEADING);
            let argument = argument.help(format!("{about} {default}").trim_end().to_owned());
            if P::HAS_VARIABLES { argument.env(variable) } else { argument }
        };
        command.args(P::TAKEN.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<P: Part> FromArgMatches for Settings<P> {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let given = |&(setting, ..): &(Setting, &str, &str)| {
            let id = setting.option().trim_start_matches("--");
            let text = matches.get_one::<String>(id)?.clone();
            let name = match matches.value_source(id) {
                Some(ValueSource::EnvVariable) => setting.variable(),
                _ => setting.option(),
            };
            Some((setting, Given { name, text }))
        };
        Ok(Self { given: P::TAKEN.iter().filter_map(given).collect(), part: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<P: Part> Settings<P> {
    /// What the variables say: an empty command line.
    ///
    /// # Errors
    /// A variable that is no text.
    pub fn from_variables() -> Result<Self> {
        let matches = Self::augment_args(Command::new("")).no_binary_name(true).try_get_matches_from([""; 0]);
        matches.and_then(|matches| Self::from_arg_matches(&matches)).map_err(|error| {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            Error::Setting(line.trim_start_matches("error: ").to_owned())
        })
    }

    /// What was given by options, and not by variables.
    pub(crate) fn options_alone(&self) -> Self {
        let options = self.given.iter().filter(|(_, given)| given.name.starts_with("--"));
        Self { given: options.cloned().collect(), part: PhantomData }
    }

    /// The same with another text for `setting`.
    #[must_use]
    pub fn with(mut self, setting: Setting, text: String) -> Self {
        self.given.retain(|(other, _)| *other != setting);
        self.given.push((setting, Given { name: setting.option(), text }));
        self
    }

    /// As options of a command that sets the same.
    pub(crate) fn as_options(&self) -> Vec<String> {
        let option = |(setting, given): &(Setting, Given)| format!("{}={}", setting.option(), given.text);
        self.given.iter().map(option).collect()
    }

    /// What the user wrote for a setting, if anything.
    pub fn given(&self, setting: Setting) -> Option<&Given> {
        self.given.iter().find(|(other, _)| *other == setting).map(|(_, given)| given)
    }

    /// The axes of the matrix that are set.
    ///
    /// # Errors
    /// [`Error::Setting`]: a list that is empty, repeats an item, or has an item that cannot be
    /// read; lists that do not go together.
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
            shapes: self.one_if_asked(Setting::Shapes, parse_shapes)?,
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

    /// Namespaces, link and sockets. `program` is the `sendpath` command. A variable that looks
    /// like a setting and is none is refused.
    ///
    /// # Errors
    /// [`Error::Setting`], and nothing is set up.
    pub fn setup(&self, program: PathBuf) -> Result<Setup> {
        std::env::vars_os().try_for_each(|(name, _)| check_variable(&name.to_string_lossy()))?;
        let mut socket = SocketOptions::default();
        if let Some(buffers) = self.parsed(Setting::Buffers, str::parse)? {
            socket.buffers = buffers;
        }
        if let Some(Given { text, .. }) = self.given(Setting::Congestion) {
            socket.congestion.clone_from(text);
        }
        let mtu_bytes = self.parsed(Setting::Mtu, |text| {
            text.parse().map_err(|_| format!("MTU {text:?} is not a number of bytes"))
        })?;
        let netns = self.parsed(Setting::Netns, Topology::parse)?;
        let server_address = self.parsed(Setting::ServerAddress, parse_server_address)?;
        let peer = self.parsed(Setting::Peer, Peer::parse)?.map(|peer| Peer { server_address, ..peer });
        let (topology, client, alone): (_, _, &[(Setting, &str)]) = match peer {
            None => {
                let why = "only a peer's client needs to be told where the server is";
                (netns.unwrap_or_default(), Client::Child(program), &[(Setting::ServerAddress, why)])
            }
            Some(peer) => {
                let netns = "the server runs where the command is started: ip netns exec NAME sendpath ... --peer ...";
                let mtu = "the link to a peer is left as it is";
                (Topology::Peer, Client::Peer(peer), &[(Setting::Netns, netns), (Setting::Mtu, mtu)])
            }
        };
        for &(setting, why) in alone {
            let Some(given) = self.given(setting) else { continue };
            let with = self.given(Setting::Peer).map_or_else(|| "no --peer".to_owned(), ToString::to_string);
            return Err(Error::Setting(format!("{given} does not go with {with}: {why}")));
        }
        let setup = Setup { topology, mtu_bytes, socket, client };
        setup.check()?;
        Ok(setup)
    }

    fn list<T: PartialEq>(
        &self,
        setting: Setting,
        parse: impl Fn(&str) -> std::result::Result<T, CaseError>,
    ) -> Result<Vec<T>> {
        self.one_if_asked(setting, |text| parse_list(text, ',', &parse))
    }

    /// What is given of a list, by `parse`; refuses several where one is taken.
    fn one_if_asked<T, E: Display>(
        &self,
        setting: Setting,
        parse: impl Fn(&str) -> std::result::Result<Vec<T>, E>,
    ) -> Result<Vec<T>> {
        let list = self.parsed(setting, parse)?.unwrap_or_default();
        let takes_several = P::TAKEN.iter().any(|&(other, value, _)| other == setting && value == LIST);
        match self.given(setting) {
            Some(given) if list.len() > 1 && !takes_several => {
                Err(Error::Setting(format!("{given}: it takes one at a time")))
            }
            _ => Ok(list),
        }
    }

    fn parsed<T, E: Display>(
        &self,
        setting: Setting,
        parse: impl Fn(&str) -> std::result::Result<T, E>,
    ) -> Result<Option<T>> {
        let Some(Given { name, text }) = self.given(setting) else { return Ok(None) };
        parse(text).map(Some).map_err(|error| Error::Setting(format!("{name}: {error}")))
    }
}

/// What all variables of this program begin with.
const PREFIX: &str = "SENDPATH_";
/// The variables that are no setting and mean something.
const OTHER_VARIABLES: [&str; 4] =
    ["SENDPATH_HOST", "SENDPATH_PLANT_SPIN_NS", "SENDPATH_REVISION", "SENDPATH_DIRTY"];

/// Refuses a variable that is mistyped: it begins as those of this program do, and nearly is one of
/// them. What is near to none belongs to somebody else.
fn check_variable(name: &str) -> Result<()> {
    let Some(word) = name.strip_prefix(PREFIX) else { return Ok(()) };
    let settings = Setting::ALL.iter().map(|setting| setting.variable());
    let known: Vec<&str> = settings.chain(OTHER_VARIABLES).collect();
    if known.contains(&name) {
        return Ok(());
    }
    let word = word.to_ascii_uppercase();
    let distance = |known: &&str| strsim::damerau_levenshtein(&word, &known[PREFIX.len()..]);
    let nearest = known.into_iter().min_by_key(distance).filter(|known| {
        // Two letters of a short word make another word.
        let letters = known.len() - PREFIX.len();
        distance(known) <= if letters < 6 { 1 } else { 2 }
    });
    match nearest {
        Some(known) => Err(Error::Setting(format!("{name} is no variable of sendpath; {known} is"))),
        None => Ok(()),
    }
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

/// The lines of a trace file, a weight and a list of sizes on each (`97 64`, `3 24,512K`; `#`
/// begins a comment), as it stands on a command line: `97x64|3x24,512K`.
pub fn trace(text: &str) -> std::result::Result<String, String> {
    let mut lists = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        // Between sizes there is a comma, with or without a space. Without the comma it is no list:
        // 24 512 is not 24512.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every setting.
    #[derive(Debug)]
    struct All;

    impl Part for All {
        const HEADING: &'static str = "";
        const TAKEN: &'static [(Setting, &'static str, &'static str)] = &[
            (Setting::Workloads, LIST, ""),
            (Setting::Paths, LIST, ""),
            (Setting::Layouts, LIST, ""),
            (Setting::Sizes, LIST, ""),
            (Setting::Threads, LIST, ""),
            (Setting::Receivers, LIST, ""),
            (Setting::Shapes, LIST, ""),
            (Setting::Engines, LIST, ""),
            (Setting::CopyBelow, LIST, ""),
            (Setting::Netns, "", ""),
            (Setting::Peer, "", ""),
            (Setting::ServerAddress, "", ""),
            (Setting::Mtu, "", ""),
            (Setting::Buffers, "", ""),
        ];
        const HAS_VARIABLES: bool = false;
    }

    /// With the options on a command line; the variables as if they had been there.
    fn read<T>(
        options: &[(Setting, &str)],
        variables: &[(&str, &str)],
        of: impl Fn(&Settings<All>) -> Result<T>,
    ) -> Result<T> {
        let line = options.iter().map(|(setting, text)| format!("{}={text}", setting.option()));
        let command = Settings::<All>::augment_args(Command::new("")).no_binary_name(true);
        let mut settings = Settings::<All>::from_arg_matches(&command.get_matches_from(line)).unwrap();
        for &(name, text) in variables {
            let setting =
                All::TAKEN.iter().map(|taken| taken.0).find(|setting| setting.variable() == name).unwrap();
            if settings.given(setting).is_none() {
                settings.given.push((setting, Given { name: setting.variable(), text: text.to_owned() }));
            }
        }
        of(&settings)
    }

    fn axes(settings: &Settings<All>) -> Result<Axes> {
        settings.axes()
    }

    #[test]
    fn nothing_given_sets_nothing() {
        assert_eq!(read(&[], &[], axes).unwrap(), Axes::default());
    }

    #[test]
    fn a_variable_that_nearly_is_one_is_refused_with_the_name_of_that_one() {
        for (mistyped, meant) in [
            ("SENDPATH_SIZE", "SENDPATH_SIZES"),
            ("SENDPATH_sizes", "SENDPATH_SIZES"),
            ("SENDPATH_THREAD", "SENDPATH_THREADS"),
            ("SENDPATH_BUFERS", "SENDPATH_BUFFERS"),
            ("SENDPATH_NETSN", "SENDPATH_NETNS"),
            ("SENDPATH_RECEIVERS", "SENDPATH_RECEIVER"),
            ("SENDPATH_WORKLAOD", "SENDPATH_WORKLOADS"),
            ("SENDPATH_PEERS", "SENDPATH_PEER"),
            ("SENDPATH_HOSTS", "SENDPATH_HOST"),
        ] {
            let error = check_variable(mistyped).unwrap_err();
            assert!(error.is_bad_input());
            assert_eq!(error.to_string(), format!("{mistyped} is no variable of sendpath; {meant} is"));
        }
        let others =
            ["SENDPATH_TEST_TRACE", "SENDPATH_RUNNER", "SENDPATH_VERIFIED_MESSAGES", "SENDPATH_BLESS"];
        let others =
            others.iter().chain(&["SENDPATH_FUZZ_SEED", "SENDPATH_FLOOR_NETNS", "PATH", "SENDPATH_"]);
        let known = Setting::ALL.iter().map(|setting| setting.variable()).chain(OTHER_VARIABLES);
        for name in known.chain(others.copied()) {
            assert!(check_variable(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn where_one_is_taken_several_are_refused() {
        let command = Settings::<One>::augment_args(Command::new("")).no_binary_name(true);
        let of = |line: [&str; 2]| {
            let matches = command.clone().get_matches_from(line);
            Settings::<One>::from_arg_matches(&matches).unwrap().axes()
        };
        let case = of(["--size=4K", "--path=one_copy"]).unwrap().case();
        assert_eq!((case.payload_bytes, case.path, case.threads), (4096, SendPath::OneCopy, 1));
        assert_eq!(
            of(["--shape=24,512K", "--path=one_copy"]).unwrap().case().payload_bytes,
            24 + (512 << 10)
        );
        let error = of(["--size=4K,8K", "--path=one_copy"]).unwrap_err();
        assert_eq!(error.to_string(), "--size 4K,8K: it takes one at a time");
    }

    #[test]
    fn sizes_of_a_trace_file_are_not_joined_where_a_comma_is_missing() {
        assert_eq!(trace("\u{feff}97 64\n3\t24, 512K # header and body\n").unwrap(), "97x64|3x24, 512K");
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
        let setup = |settings: &Settings<All>| settings.setup(PathBuf::new());
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
            matrix.cells().into_iter().map(of).collect::<Vec<_>>()
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
        assert_eq!(parse_shapes(&given).unwrap()[0].to_string(), "97x64|3x24,512K");
        let listed = read(&[(Setting::Shapes, &format!("header; {given}"))], &[], axes).unwrap().shapes;
        assert_eq!(listed.iter().map(ToString::to_string).collect::<Vec<_>>(), ["header", "97x64|3x24,512K"]);

        for (lines, said) in [
            ("97 64\n3\n", "trace.txt: line 2: \"3\" is not a weight"),
            ("97 64\n# all\n0 24,512K\n", "trace.txt: line 3: \"0 24,512K\""),
            ("97 64|2x8\n", "trace.txt: line 1: "),
            ("97 17M\n", "trace.txt: line 1: "),
            ("# nothing\n", "trace.txt: no line has a weight"),
            ("100000 64\n1 512K\n", "trace.txt: shape \"100000x64|1x512K\": a list has less than 1/512"),
        ] {
            let error = parse_shapes(&text(lines)).unwrap_err();
            assert!(error.contains(said), "{lines:?}: {error}");
        }
    }
}
