//! What the user sets, by options of the command line or by variables: read once, for every command and bench,
//! into typed values. An error names what the user wrote.

use std::fmt::Display;
use std::path::PathBuf;

use crate::case::{
    Axes, Axis, CaseError, Layout, Placement, Receiver, SendPath, Source, Workload, parse_list,
    parse_payload_bytes, parse_threads,
};
use crate::error::{Error, Result};
use crate::pair::{Setup, SocketOptions};
use crate::topology::Topology;

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
    /// Where the two processes run.
    Netns,
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
            Self::Netns => "--netns",
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
            Self::Netns => "SENDPATH_NETNS",
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
    /// [`Error::Setting`]: a list that is empty, repeats an item, or has an item that cannot be read.
    pub fn axes(&self) -> Result<Axes> {
        Ok(Axes {
            workloads: self.list(Setting::Workloads, Workload::parse)?,
            paths: self.list(Setting::Paths, SendPath::parse)?,
            layouts: self.list(Setting::Layouts, Layout::parse)?,
            payload_bytes: self.list(Setting::Sizes, parse_payload_bytes)?,
            threads: self.list(Setting::Threads, parse_threads)?,
            placements: self.list(Setting::Placements, Placement::parse)?,
            receivers: self.list(Setting::Receivers, Receiver::parse)?,
            sources: self.list(Setting::Sources, Source::parse)?,
        })
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
        let topology = self.parsed(Setting::Netns, Topology::parse)?.unwrap_or_default();
        topology.check(mtu_bytes)?;
        Ok(Setup { topology, mtu_bytes, socket, program })
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
        let setup = |settings: &Settings<'_>| settings.setup(PathBuf::new());
        let error = read(&[(Setting::Mtu, "big")], &[], setup).unwrap_err().to_string();
        assert_eq!(error, r#"--mtu: MTU "big" is not a number of bytes"#);
        let error = read(&[], &[("SENDPATH_BUFFERS", "1")], setup).unwrap_err().to_string();
        assert!(error.starts_with("SENDPATH_BUFFERS: ") && error.contains("auto"), "{error}");
    }
}
